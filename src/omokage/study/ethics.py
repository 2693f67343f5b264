"""The ethics sheet of a study: the questions that a university asks, answered from the design.

The twelve points are those of the form that rai2020's university used: briefing, withdrawal, deception,
debriefing, consent, risk, incentive, authority, under 16, impairment, contacts, data plan. A point that the
design cannot answer is marked open.
"""

from dataclasses import dataclass

from .design import Design

OPEN = "open"


@dataclass(frozen=True)
class Point:
    """One question with its answer. open: what the researcher still has to decide or write; "" if nothing."""

    question: str
    answer: str
    open: str = ""


def points(design: Design) -> list[Point]:
    """The twelve questions, in order, answered from the design.

    >>> found = points(Design())
    >>> len(found), sum(bool(point.open) for point in found)
    (12, 5)
    """
    kinds = {
        "pairs": "which of two pictures is real",
        "single": "whether a picture is real or generated",
        "timed": "whether a picture, shown for a limited time, is real or generated",
        "rating": "how good pictures are",
        "preference": "which of two pictures is better",
    }
    languages = ", ".join(design.languages)
    days = design.withdrawal_days
    asked = ", ".join(question.id for question in design.questions)
    panel = design.panel
    who = [contact for contact in (design.researcher, design.supervisor) if contact.name and contact.email]
    told = "; ".join(f"{contact.name} ({contact.email})" for contact in who)
    missing = [
        name
        for name, contact in (("the researcher", design.researcher), ("the supervisor", design.supervisor))
        if not (contact.name and contact.email)
    ]
    flash = (
        " Pictures appear for a short time and are followed by a mask."
        if design.kind == "timed" and design.mask
        else " Pictures appear for a short time."
        if design.kind == "timed"
        else ""
    )
    return [
        Point(
            "Briefing: will you tell participants beforehand what they will do?",
            f"Yes. The first page says that they will judge {kinds[design.kind]}, how many trials there are "
            f"({design.trials}{f' and {design.practice} for practice' if design.practice else ''}), who runs "
            f"the study, and what happens to their answers. Languages: {languages}.",
        ),
        Point(
            "Withdrawal: will you tell participants that they may stop at any time?",
            "Yes, before they begin. They may close the page at any time without a reason. "
            + (
                f"A code deletes all their data during the study and for {days} days after they started."
                if days
                else "Afterwards their data cannot be deleted."
            ),
            "" if days else "Withdrawal after the end is switched off (withdrawal_days = 0). Say why.",
        ),
        Point(
            "Deception: will participants be deceived or misled in any way?",
            "No. They know that some pictures are generated; this is what they are asked about."
            if design.kind in ("pairs", "single", "timed")
            else "The design asks for a judgement of pictures.",
            ""
            if design.kind in ("pairs", "single", "timed")
            else "Say whether participants are told that pictures are generated.",
        ),
        Point(
            "Debriefing: will you tell participants afterwards what the study was about?",
            "Yes. The last page explains the study and shows "
            + (
                f"each answer with the truth{' and the score' if design.show_score else ''}."
                if design.kind in ("pairs", "single", "timed")
                else "where the pictures came from."
            ),
        ),
        Point(
            "Consent: will you ask for explicit consent?",
            f"Yes. Nothing is stored before {len(design.consent)} statements are agreed to, each by its own "
            "box. The words as they were shown are kept."
            if design.consent
            else "The design has no statements to agree to.",
            "" if design.consent else "Add statements of consent to the design.",
        ),
        Point(
            "Risk: could participants be harmed or distressed?",
            f"Participants look at pictures of drawn faces on their own device.{flash} No harm beyond that "
            "of daily life is expected.",
            "Look through all pictures and confirm that none is disturbing or sexual."
            + (
                " Rapidly changing pictures: confirm that none flicker, and warn people with photosensitive "
                "epilepsy."
                if design.kind == "timed"
                else ""
            ),
        ),
        Point(
            "Incentive: are participants paid or rewarded?",
            f"They are recruited and paid through {panel.service}. A code confirms that they took part, also "
            "when they refuse or are screened out."
            if panel
            else "The study itself pays nothing.",
            "Say how much is paid, for how many minutes."
            if panel
            else "Say whether there is a reward outside the study, like course credit or a draw.",
        ),
        Point(
            "Authority: are you, or is anyone involved, in a position of authority over participants?",
            "Answers are anonymous: nobody can see who took part or what a person answered.",
            "Say whether participants are students or staff of the researcher or supervisor.",
        ),
        Point(
            "Under 16: could any participant be under 16?",
            f"No. Participants confirm that they are at least {design.minimum_age}."
            if design.minimum_age >= 16
            else f"The minimum age is {design.minimum_age or 'not asked'}.",
            "" if design.minimum_age >= 16 else "Consent of a parent or guardian is needed; say how.",
        ),
        Point(
            "Impairment: could any participant be impaired so that they cannot consent, or need help?",
            "The page works by keyboard alone and with large text; the task itself needs sight. "
            "Whoever cannot read and agree to the statements cannot start.",
        ),
        Point(
            "Contacts: will participants know whom to ask and where to complain?",
            f"They are on the first and the last page: {told}." if told else "No contact is given yet.",
            f"Add name and address of {' and '.join(missing)} to the design." if missing else "",
        ),
        Point(
            "Data plan: what is stored, where, for how long, and who sees it?",
            "Stored are answers, response times, kind of device, size of the page, language, times to the "
            "minute"
            + (f", and answers to the questions {asked}" if asked else "")
            + ". Not stored are names, network addresses and cookies of others; no request goes to a third "
            "party. "
            + (
                f"Identifiers of {panel.service} are in a table apart, which can be erased. "
                if panel
                else "There are no identifiers of a recruiting service. "
            )
            + "The data lies on the server of the researcher.",
            "Say where the server stands, who has access, and when the data is published or deleted.",
        ),
    ]


def sheet(design: Design) -> str:
    """The ethics sheet as Markdown; open points are marked and listed first."""
    found = points(design)
    todo = [(number, point) for number, point in enumerate(found, 1) if point.open]
    lines = [f"# Ethics sheet: {design.title}", "", f"Design {design.hash()[:16]}.", ""]
    if todo:
        lines.append(f"{len(todo)} of {len(found)} points are open: {', '.join(str(n) for n, _ in todo)}.")
    else:
        lines.append(f"All {len(found)} points are answered.")
    for number, point in enumerate(found, 1):
        lines += ["", f"## {number}. {point.question}", "", point.answer]
        if point.open:
            lines += ["", f"**Open:** {point.open}"]
    return "\n".join(lines) + "\n"
