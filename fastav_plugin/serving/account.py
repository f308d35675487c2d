"""What the answer to a request says of its pruning: an object in JSON, and a header's line."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastav_plugin.pruning.prompt import Reason

if TYPE_CHECKING:
    from fastav_plugin.report import PruningReport

#: The header with the line, of streams and JSON alike.
HEADER = "X-FastAV-Report"
#: The key of the object, beside `usage`.
KEY = "fastav"


@dataclass(frozen=True)
class Account:
    """What was dropped of one prompt.

    Attributes:
        prompt_tokens: before any cut, padding excluded.
        kept_last_layer: prompt tokens that the last layer saw.
        flops_ratio: of the prefill, as of a PruningReport.
        kv_bytes: of the keys and values held when it was made; None where no cache of this
            package held them.
        dense_kv_bytes: those of a dense cache; None likewise.
        reason: why nothing was cut, or None.
        report: one line of ASCII.
    """

    prompt_tokens: int
    kept_last_layer: int
    flops_ratio: float
    kv_bytes: int | None
    dense_kv_bytes: int | None
    reason: str | None
    report: str

    @classmethod
    def of(cls, report: "PruningReport | None", prompt_tokens: int) -> "Account":
        """The account of a request.

        Args:
            report: of its batch row; None where the method cuts nothing.
            prompt_tokens: of its inputs, where there is no report to count them.
        """
        line = describe(report).encode("ascii", "backslashreplace").decode()
        if report is None:
            reason = Reason.NO_HOOKS.sentence(0)
            return cls(prompt_tokens, prompt_tokens, 1.0, None, None, reason, line)
        return cls(
            sum(report.prompt_tokens().values()),
            report.tokens_per_layer[-1],
            report.flops_ratio,
            report.kv_bytes,
            report.dense_kv_bytes,
            report.reason,
            line,
        )


def describe(report: "PruningReport | None") -> str:
    """What one generate() dropped, or why nothing; None where the method cuts nothing."""
    return "unpruned, because this method cuts nothing" if report is None else str(report)


def tell(answer: Any, account: Account) -> Any:
    """An answer of a handler, with the account in it.

    Args:
        answer: a JSONResponse or a StreamingResponse, which gets the header alone.
        account: of its request.
    """
    from fastapi.responses import JSONResponse

    if isinstance(answer, JSONResponse):
        content = {**json.loads(bytes(answer.body)), KEY: asdict(account)}
        answer = JSONResponse(content, answer.status_code)
    answer.headers[HEADER] = account.report
    return answer
