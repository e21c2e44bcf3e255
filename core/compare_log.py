"""The readable log of a comparison: its plan, its result, and every pair with what was said of it.

Until all is revealed it holds nothing that tells the contenders apart.
"""

from core.blind import Item, Side, as_line
from core.export import Row
from core.judge import BASE, TUNED
from core.report import headline, sections
from core.results import Results, assess
from core.standing import Standing

RULE = "-" * 78


def write_log(standing: Standing) -> str:
    results = assess(standing) if standing.is_revealed else None
    parts = [_head(standing)]
    if results is None:
        parts += [_entry(number, standing, item, "") for number, item in enumerate(standing.items.values(), start=1)]
        return "\n\n".join(parts) + "\n"
    parts += [_results(results)]
    rows = zip(standing.real_items(), results.rows, strict=True)
    parts += [_entry(number, standing, item, _verdicts(row)) for number, (item, row) in enumerate(rows, start=1)]
    if standing.placebos():
        parts.append("The placebo pairs: base on both sides, outside every figure above but the noise floor")
        parts += [
            _entry(number, standing, item, _placebo_verdicts(standing, item))
            for number, item in enumerate(standing.placebos(), start=1)
        ]
    sealed = "What was sealed: the SHA-256 above is over the nonce, a newline, and the line below"
    parts.append(f"{RULE}\n{sealed}\n\n{as_line(standing.items.values())}")
    return "\n\n".join(parts) + "\n"


def _head(standing: Standing) -> str:
    plan, decoding = standing.started, standing.started.decoding
    answered = sum(map(standing.is_answered, standing.items))
    primary = "nobody" if plan.is_judge_only and not plan.judge_model else plan.primary.value
    lines = [
        "Model comparison",
        f"Started:    {plan.created_at}",
        f"Base:       {plan.base_model}",
        f"Tuned:      {plan.adapter}",
        f"Judge:      {plan.judge_model or 'none'}{', without a human vote' if plan.is_judge_only else ''}",
        f"Decides:    {primary}",
        f"Decoding:   temperature {decoding.temperature:g}, top p {decoding.top_p:g}, "
        f"at most {decoding.max_new_tokens} tokens",
        f"Prompts:    {len(plan.prompts)}, draws of each: {plan.samples}, placebo pairs: {plan.num_placebos}",
        f"Pairs:      {len(standing.items)}, of which {answered} answered and {len(standing.votes)} voted on",
        f"Sides:      sealed under SHA-256 {plan.commitment}",
    ]
    if standing.is_revealed:
        # Whoever has the seed can have the responses said again, and see who says them.
        lines += [f"Seed:       {plan.seed}", f"Nonce:      {standing.nonce.hex()}"]
    if standing.judge_stopped:
        lines.append(f"The judge stopped: {standing.judge_stopped}")
    return "\n".join(lines)


def _results(results: Results) -> str:
    parts = [f"RESULT. {headline(results)}"]
    parts += [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections(results)]
    return f"{RULE}\n" + "\n\n".join(parts)


def _entry(number: int, standing: Standing, item: Item, verdicts: str) -> str:
    prompt = standing.prompts[item.prompt_id]
    name = f" [{prompt.id}]" if standing.is_revealed else ""
    said = [f"{RULE}\n{number}. {prompt.category}{name}", prompt.prompt]
    said += [_response(standing, item, side) for side in Side] if standing.is_answered(item.id) else ["(not answered)"]
    vote = standing.votes.get(item.id)
    said.append(verdicts or (f"Vote: {vote}" if vote else "(no verdict yet)"))
    return "\n\n".join(said)


def _verdicts(row: Row) -> str:
    lines = [f"Vote: {row.human_verdict}. For tuned: {row.human_outcome}."] if row.human_verdict else []
    if row.judge_outcome:
        orders = f"base shown first: {row.judge_order_1}; tuned shown first: {row.judge_order_2}"
        lines.append(f"Judge, {orders}. For tuned: {row.judge_outcome}.")
    if row.judge_reason:
        lines.append(row.judge_reason)
    return "\n".join(lines)


def _placebo_verdicts(standing: Standing, item: Item) -> str:
    """What was said of base against base: the judge's `tuned` is base's second draw."""
    vote = standing.votes.get(item.id)
    lines = [f"Vote: {vote}"] if vote else []
    if standing.started.judge_model:
        judged = standing.judge_result(item.id)
        names = {BASE: "first draw", TUNED: "second draw"}
        orders = [names.get(order, order) for order in (judged.order_1, judged.order_2)]
        lines.append(f"Judge, first draw shown first: {orders[0]}; second draw shown first: {orders[1]}.")
    return "\n".join(lines)


def _response(standing: Standing, item: Item, side: Side) -> str:
    """One side's response; who that is only once all is revealed."""
    answer = standing.answer_on(item.id, side)
    who = ""
    if standing.is_revealed:
        name = TUNED if item.tuned_side == side and not item.is_placebo else BASE
        who = f", {name}, tokens: {answer.num_tokens}{', cut' if answer.is_cut else ''}"
    return f"[{side}{who}]\n{answer.text or '(empty)'}"
