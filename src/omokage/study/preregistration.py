"""The text of a pre-registration, from a study's design and plan."""

from .design import REAL, Design
from .power import Plan

OPEN = "**Open:**"


def text(design: Design, plan: Plan | None = None) -> str:
    """The pre-registration as Markdown; what the design does not say is marked open.

    Args:
        plan: the result of `power.plan`, for the section on the number of people.

    >>> "Stopping rule" in text(Design(sources=("real", "fast")))
    True
    """
    h, kind = design.hypotheses, design.kind
    points = f"± {100 * h.equivalence_margin:g} percentage points"
    lines = [
        f"# Pre-registration: {design.title}",
        "",
        f"Design {design.hash()[:16]}, seed {design.seed}. It is frozen when the first person starts.",
        "",
        "## Questions",
        "",
    ]
    if kind in ("pairs", "single", "timed"):
        lines += [
            f"1. Does the share of right answers differ from chance ({100 * h.chance:g}%)?",
            f"2. Is it the same as chance within {points}?",
        ]
        if len(design.generated) > 1:
            lines.append(f"3. The same for each source: {', '.join(design.generated)}.")
        if kind == "timed":
            lines.append("4. Does the share of right answers rise with the time shown?")
    elif kind == "rating":
        reference = REAL if design.real else (design.sources[0] if design.sources else "the first source")
        parts = ", ".join(design.parts)
        lines.append(f"1. Do mean ratings ({parts}) differ between each source and {reference}?")
    else:
        lines.append("1. In which order do people rank the sources?")
    lines += ["", "## Design", ""]
    lines += [f"- {line}" for line in _design(design)]
    lines += ["", "## Number of people", ""]
    if plan is not None:
        lines += [plan.sentence, *plan.notes]
    else:
        lines.append(f"{OPEN} say why this number is enough; `omokage study plan` finds one by simulation.")
    lines += ["", "## Stopping rule", ""]
    if design.stopping.participants:
        lines.append(
            f"The study ends at {design.stopping.participants:,} complete participants. Results are hidden "
            "until then; each look at them is recorded and reported."
        )
    else:
        lines.append(f"{OPEN} no number of participants is fixed. Set `participants` under `[stopping]`.")
    lines += ["", "## Exclusions", ""]
    lines += [f"- {line}" for line in _exclusions(design)]
    lines += ["", "## Analysis", ""]
    lines += [f"- {line}" for line in _analysis(design, points)]
    lines += ["", "## Pictures", ""]
    if design.chosen_by_hand:
        for source, count in design.chosen_by_hand.items():
            among = f" out of {count:,}" if count else ""
            lines.append(f"- Pictures of {source} are picked by hand{among}. Results hold for these alone.")
    else:
        lines.append("- No picture is picked by hand.")
    lines.append("- All pictures go through the same resize and encoding, and carry no metadata.")
    return "\n".join(lines) + "\n"


def _design(design: Design) -> list[str]:
    kinds = {
        "pairs": "Each trial shows one real and one generated picture; the person picks the real one.",
        "single": "Each trial shows one picture; the person says real or generated. Half are real.",
        "timed": "Each trial shows one picture for "
        f"{', '.join(f'{ms}' for ms in design.exposures_ms)} ms"
        f"{', then a mask' if design.mask else ''}; the person says real or generated. Half are real.",
        "rating": f"Each picture is rated from {design.scale[0]} to {design.scale[1]}: "
        f"{', '.join(design.parts)}.",
        "preference": "Each trial shows pictures of two sources; the person picks the better one.",
    }
    found = [
        kinds[design.kind],
        f"Sources: {', '.join(design.sources) if design.sources else f'{OPEN} none yet'}.",
        f"Each person has {design.trials} trials, {design.practice} for practice before them and "
        f"{design.checks} checks of attention among them.",
        "Order, sides and selection of pictures are random for each person from a recorded seed; sides are "
        "balanced, and every picture is shown about equally often.",
    ]
    if design.questions:
        asked = ", ".join(question.id for question in design.questions)
        found.append(f"Asked before: {asked}. Comparisons between these groups are exploratory.")
    return found


def _exclusions(design: Design) -> list[str]:
    rules = design.exclusion
    found = ["People who did not finish are left out."]
    if rules.min_checks_passed is not None:
        found.append(f"People who passed fewer than {rules.min_checks_passed} attention checks are left out.")
    if rules.max_flagged_share is not None:
        found.append(
            f"People with more than {rules.max_flagged_share:.0%} of exposures off by more than a frame are "
            "left out."
        )
    if rules.min_rt_ms is not None:
        found.append(f"Answers in less than {rules.min_rt_ms:g} ms are left out.")
    if rules.max_rt_ms is not None:
        found.append(f"Answers after more than {rules.max_rt_ms:g} ms are left out.")
    found.append("Pilots, practice and checks are no part of the analysis.")
    found.append("The result without exclusions is reported too.")
    return found


def _analysis(design: Design, points: str) -> list[str]:
    clustered = (
        "clustered by person and picture (two-way cluster-robust standard errors; t with the smaller number "
        "of people or pictures less 1 degrees of freedom)"
    )
    if design.kind == "rating":
        return [
            f"Mean ratings by part and source, and differences, with 95% intervals {clustered}.",
            "p values of the differences are adjusted by Holm's method.",
        ]
    if design.kind == "preference":
        return [
            f"Bradley-Terry strengths with 95% intervals {clustered}.",
            "A bootstrap over persons (2,000 resamples) says how often each source comes first.",
        ]
    found = [
        f"Share of right answers with a 95% interval {clustered}; two-sided t test at 5%.",
        f"Two one-sided tests at 5% for equivalence within {points}, on the same standard error.",
        "Exact test that nobody can tell at all, given each person's answers and trials (Zelen).",
        "d′ and c from all answers together with the log-linear correction, with intervals clustered alike.",
    ]
    if len(design.generated) > 1:
        found.append("By source: the same; p values adjusted by Holm's method.")
    if design.kind == "timed":
        found.append("Slope of right answers over the logarithm of the time shown, clustered alike.")
    return found
