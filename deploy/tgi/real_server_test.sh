#!/usr/bin/env bash
# Serve tiny models with the real Python server of Text Generation Inference and compare tokens.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy/tgi/real_server_test.sh [OPTIONS] TGI_CHECKOUT

Starts the Python server of a Text Generation Inference source tree with --model-override on tiny
models, drives it over gRPC as its router does, and compares every token with generate(). On a CPU;
nothing is written into the checkout. One line per check; the exit status is 0 if all passed.

TGI_CHECKOUT is a clone of https://github.com/huggingface/text-generation-inference (3.3.7).

Options, all handed on to the driver:
  --only NAME        only these checks; may be given several times. --list shows the names.
  --load             also 64 staggered requests with cancels, corrupt media and disconnects.
  --seed N           of the load (default 0).
  --list             show the names of the checks and end.
  -h, --help         show this and end.

Environment:
  FASTAV_TGI_CACHE   folder for the environment, the server's copy and the models
                     (default: fastav-tgi below XDG_CACHE_HOME or ~/.cache)
  FASTAV_TGI_VENV    an environment to use, made if missing (default: venv in that folder)
  FASTAV_TGI_LIMIT   seconds after which the driver is stopped (default: 1800)
  PYTHON             Python 3.11 or newer that makes the environment (default: python3.11, python3)

Example:
  git clone --depth 1 --branch v3.3.7 https://github.com/huggingface/text-generation-inference tgi
  deploy/tgi/real_server_test.sh --load tgi
TEXT
}

fail() {
    echo "real_server_test: $1" >&2
    exit 2
}

checkout=
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --only | --seed)
            [ $# -gt 1 ] || fail "$1 needs a value. See --help."
            arguments+=("$1" "$2"); shift ;;
        --load | --list) arguments+=("$1") ;;
        -*) fail "unknown option '$1'. See --help." ;;
        *)
            [ -z "$checkout" ] || fail "one checkout only, got '$checkout' and '$1'. See --help."
            checkout=$1 ;;
    esac
    shift
done
[ -n "$checkout" ] || fail "name a checkout of Text Generation Inference. See --help."
[ -f "$checkout/proto/v3/generate.proto" ] && [ -d "$checkout/server/text_generation_server" ] ||
    fail "'$checkout' is not a checkout of Text Generation Inference: it has no proto/v3/generate.proto and server/text_generation_server."

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${FASTAV_TGI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fastav-tgi}
venv=${FASTAV_TGI_VENV:-$cache/venv}
mkdir -p "$cache"

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
requirements=$root/deploy/tgi/real_server_requirements.txt
# An environment is made again only when what goes into it has changed.
wanted=$(cat "$root/constraints.txt" "$root/setup.cfg" "$requirements" | cksum)
if [ "$(cat "$venv/.fastav-tgi" 2>/dev/null)" != "$wanted" ]; then
    [ -n "$python" ] || fail "no Python 3.11 or newer was found. Name one: PYTHON=/path/to/python3.11"
    echo "Making $venv (once; torch is several gigabytes) ..."
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c "$root/constraints.txt" -r "$requirements" accelerate peft psutil soxr \
        av kaldi-native-fbank pillow rich safetensors soundfile torch torchvision transformers typer
    echo "$wanted" >"$venv/.fastav-tgi"
fi
export PATH="$venv/bin:$PATH"

# The server is installed from a copy: generated code stays out of the checkout.
copy=$cache/server
rm -rf "$copy"
mkdir -p "$copy"
cp -R "$checkout/server/text_generation_server" "$checkout/server/pyproject.toml" \
    "$checkout/server/README.md" "$copy"
generated=$copy/text_generation_server/pb
mkdir -p "$generated"
"$venv/bin/python" -m grpc_tools.protoc -I"$checkout/proto/v3" --python_out="$generated" \
    --grpc_python_out="$generated" "$checkout/proto/v3/generate.proto"
# Its modules import each other by their bare names, and are loaded as parts of a package.
"$venv/bin/python" - "$generated" <<'PYTHON'
import pathlib, re, sys
folder = pathlib.Path(sys.argv[1])
for file in folder.glob("*.py"):
    file.write_text(re.sub(r"(?m)^(import \w+_pb2)", r"from . \1", file.read_text()))
(folder / "__init__.py").touch()
PYTHON
for project in "$copy" "$root"; do
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --no-build-isolation -e "$project"
done

cd "$root"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec timeout --kill-after=60 "${FASTAV_TGI_LIMIT:-1800}" \
    "$venv/bin/python" -m tests.tgi_real --folder "$cache/models" "${arguments[@]}"
