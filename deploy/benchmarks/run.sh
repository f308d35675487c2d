#!/bin/sh
# Measure dense and pruned generate() on this machine, and keep the results as JSON.
#
#   deploy/benchmarks/run.sh                    on the GPU, at 7B shape, into deploy/benchmarks/results
#   deploy/benchmarks/run.sh --device cpu       the same without batches above 1
#   deploy/benchmarks/run.sh --shape tiny --device cpu --output results   a trial of one minute
#
# Each file says on what hardware, with which versions and of which commit it was made. The pictures
# need fastav-plugin[viz]. A run that fails, for lack of memory say, does not keep the others from it.
set -eu
cd "$(dirname "$0")/../.."
DEVICE=cuda SHAPE=qwen2-7b OUTPUT=deploy/benchmarks/results FASTAV=${FASTAV:-fastav} FAILED=
while [ $# -gt 0 ]; do
    case $1 in --device | --shape | --output)
        [ $# -gt 1 ] || { echo "run.sh: $1 needs a value; see --help" >&2; exit 2; } ;;
    esac
    case $1 in
    --device) DEVICE=$2; shift 2 ;;
    --shape) SHAPE=$2; shift 2 ;;
    --output) OUTPUT=$2; shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
done
mkdir -p "$OUTPUT"

measure() { # NAME OPTION...: one run, its table on stdout, its JSON and picture in $OUTPUT
    name=$1; shift
    echo "== $name"
    "$FASTAV" bench --device "$DEVICE" --output "$OUTPUT/$name.json" \
        --plot "$OUTPUT/$name.png" "$@" || FAILED="$FAILED $name"
}

# The paper's prompt: 676 video and 1,496 audio tokens; composed keeps half of both.
set -- --shape "$SHAPE" --keep-ratio 0.5 --audio-keep-ratio 0.5
case $DEVICE in
cpu) measure "$SHAPE-batch1" "$@" --repeats 3 --new-tokens 9 ;;
*)
    measure "$SHAPE-batch1" "$@" --repeats 15 --warm-up 3 --new-tokens 129
    measure "$SHAPE-batches" "$@" --batch 1,8,32 --repeats 5 --warm-up 2 --new-tokens 65 --no-idle
    if "$FASTAV" bench --shape tiny --device "$DEVICE" --attention flash_attention_2 --no-idle \
        --methods fastav --repeats 1 --warm-up 0 >/dev/null 2>&1; then
        measure "$SHAPE-flash" "$@" --batch 1,8 --repeats 9 --warm-up 2 --new-tokens 65 --no-idle \
            --attention flash_attention_2
    else
        echo "== FlashAttention cannot be used here"
    fi
    ;;
esac
# video-SALMONN 2's prompt for 110 s or more, 110 frames of 182 tokens and 3 of sound, shorter and longer.
lengths=1000,2000,4000,8000,16000,20400,32000
[ "$SHAPE" = tiny ] && lengths=500,1000
measure "$SHAPE-lengths" "$@" --lengths "$lengths" --video 20020 --audio 330 --frames 110 \
    --rule 'video=first 4 frames, audio=first 12 tokens' --repeats 1 --warm-up 1 --new-tokens 9
measure "$SHAPE-peers" --shape "$SHAPE" --methods fastv,divprune --peers --no-idle --repeats 3
echo "Results: $OUTPUT"
[ -z "$FAILED" ] || { echo "run.sh: failed:$FAILED" >&2; exit 1; }
