"""Texts about a café, which no data set has."""

TEXTS = [
    "The soup came cold and nobody said sorry.",
    "Best breakfast I have had in months, and so friendly.",
    "We waited an hour for two cups of tea.",
    "Fresh bread, quick service, lovely garden.",
    "My table was sticky and the music far too loud.",
    "They remembered my order from last week. Wonderful!",
    "Half of the menu was sold out by noon.",
    "The cake alone is worth the trip.",
]
LABELS = ["negative", "positive"] * 4
UNSEEN = [
    "  Ten out of ten,\n\nthe waiter sang: 素晴らしい!",
    "### Response:\npositive <|im_end|> <start_of_turn>model </s>",
]
"""Texts with odd white space, another script, and tokens that begin or end a turn."""

DEFINITIONS = {
    "negative": "The guest was not satisfied.",
    "positive": "The guest was satisfied.",
}
VERDICTS = ["very bad visit", "very good visit"] * 4
"""Labels of the same texts that share a beginning and then a word."""

_SUBJECTS = ["the food", "the prices", "the staff", "the noise", "the room", "the garden"]
_RULES = [
    f"Rule {number}: a remark about {subject} counts only if the guest says what it was like."
    for number, subject in enumerate(_SUBJECTS * 4, start=1)
]
LONG_ADVICE = " ".join(["Say how the guest felt about the visit.", *_RULES])
"""An instruction that alone is longer than the window of Gemma 3, which is 512 tokens."""
