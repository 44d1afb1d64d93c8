"""Bodies of comparisons, logic and choices between codes of one type."""

from collections.abc import Callable

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.limits import code_limits

MakeBody = Callable[..., tuple[str, ...]]


def comparison(op: str) -> MakeBody:
    """The body of a comparison: the standard operator between codes."""

    def make(body: Body, signature: Signature, a: str, b: str) -> tuple[str, ...]:
        return (body.codes(body.apply(op, body.wide(a), body.wide(b)), "i8"),)

    return make


def is_true(body: Body, signature: Signature, position: int, flag: str) -> str:
    """The flag at an operand's position as BOOL: its code is not its zero_point."""
    zero_point = body.constant(signature.input(position).zero_point)
    return body.apply("Not", body.apply("Equal", body.wide(flag), zero_point))


def logic(op: str) -> MakeBody:
    """The body of a logical operator of one or two flags."""

    def make(body: Body, signature: Signature, *flags: str) -> tuple[str, ...]:
        truths = [is_true(body, signature, i, flag) for i, flag in enumerate(flags)]
        return (body.codes(body.apply(op, *truths), "i8"),)

    return make


def extreme(op: str) -> MakeBody:
    """The body of minimum (`Min`) or maximum (`Max`)."""

    def make(body: Body, signature: Signature, a: str, b: str) -> tuple[str, ...]:
        return (body.codes(body.apply(op, body.wide(a), body.wide(b)), signature.outputs[0].dtype),)

    return make


def clip(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """min(max(x, low), high); Max and Min, because runtimes differ on Clip with low > high."""
    low, high = (body.constant(code) for code in code_limits(signature))
    limited = body.apply("Min", body.apply("Max", body.wide(x), low), high)
    return (body.codes(limited, signature.outputs[0].dtype),)


def where(body: Body, signature: Signature, condition: str, a: str, b: str) -> tuple[str, ...]:
    chosen = body.apply("Where", is_true(body, signature, 0, condition), body.wide(a), body.wide(b))
    return (body.codes(chosen, signature.outputs[0].dtype),)
