"""Conversations as the model's token ids, through its own chat template.

Handles what templates do wrong: control tokens in a user's text, system texts that vanish, roles that
must alternate, templates that never end. Knows tokenizers, not models.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from jinja2.exceptions import SecurityError, TemplateError

from core.errors import ModelError
from core.file_rows import Reason
from core.messages import Conversation, Message, Role, as_dicts
from core.template_sandbox import within

# For bases that bring no template of their own; said so where the base is shown.
FALLBACK_TEMPLATE = (
    "{% for m in messages %}{{ {'system': '', 'user': 'Human: ', 'assistant': 'Assistant: '}[m.role] + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{{ '\n\n' }}{% endfor %}"
    # No space at the end: it belongs to the first word's token.
    "{{ 'Assistant:' if add_generation_prompt else '' }}"
)
MAX_TEMPLATE_CHARS = 200_000
# A template may write this much of its own around a conversation.
MAX_ADDED_CHARS = 200_000
RENDER_LIMIT_S = 3.0
WRITES_TOO_MUCH = "This model's chat template writes far more than it is given. Take another model."
NOT_RUN = "This model's chat template does what is not run here: {}. Take another model."
# Said where the base is shown.
IN_PLAIN_WORDS = "asked in plain words, as Human and Assistant, because it brings no chat template"
# What a template can raise, being a program that somebody else wrote.
TEMPLATE_ERRORS = (
    TemplateError, ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
PROBE = "A short question about probes"
PROBE_SYSTEM = "You are Probus"


class PrefixError(ValueError):
    """The rendered prompt cannot be parted from its reply; the text is a Reason's."""


class TemplateRefusal(ModelError):
    """The template does not take this conversation; it may well take the next one."""


class ChatTemplate:
    """Renders for one tokenizer. ModelError at construction where its template cannot be used."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.is_fallback = not tokenizer.chat_template
        if self.is_fallback:
            tokenizer.chat_template = FALLBACK_TEMPLATE
        if len(str(tokenizer.chat_template)) > MAX_TEMPLATE_CHARS:
            raise ModelError("This model's chat template is too large to be one. Take another model.")
        self._ensure_pad_token()
        self._specials = _control_tokens(tokenizer)
        self._special_ids = set(tokenizer.convert_tokens_to_ids(self._specials)) - {tokenizer.unk_token_id}
        self._changes_letters = _changes_letters(tokenizer)
        self._folds_system = False
        self.prompt_ids((Message(Role.USER, PROBE),))
        self._folds_system = self._loses_system()

    def _ensure_pad_token(self) -> None:
        # Never a new token: the embedding has no row for it.
        tokenizer = self.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        if tokenizer.eos_token is None:
            raise ModelError("This model's tokenizer has no end-of-text token, so its responses would never end.")

    def _loses_system(self) -> bool:
        # With a reply after it: some templates show the system text only while the user's turn is the last.
        turns = (Message(Role.SYSTEM, PROBE_SYSTEM), Message(Role.USER, PROBE), Message(Role.ASSISTANT, "Yes"))
        try:
            return PROBE_SYSTEM not in self._render(turns)
        except ModelError:
            return True

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """Token ids up to where the model begins its reply."""
        return self._ids(self._render(self._prepare(conversation), add_generation_prompt=True))

    def pair_ids(self, prompt: Conversation, reply: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt and of the reply after it; PrefixError where the two cannot be parted."""
        before = self.prompt_ids(prompt)
        whole = self._ids(self.pair_text(prompt, reply))
        if whole[: len(before)] != before:
            raise PrefixError(Reason.TWO_PROMPTS)
        return before, whole[len(before) :]

    def pair_text(self, prompt: Conversation, reply: str) -> str:
        """The prompt with its reply as the model is given them, control tokens written out."""
        return self._render(self._prepare((*prompt, Message(Role.ASSISTANT, reply))))

    def token_starts(self, text: str) -> list[int]:
        """Where in a rendered text each token begins; one that continues a character begins with it."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends = [0, *(end for _, end in found)]
        # Some tokenizers do not count the space before a word as the word's.
        return [min(start, end) for (start, _), end in zip(found, ends[:-1], strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _ids(self, text: str) -> list[int]:
        # The rendered text holds its own begin-of-text token; adding specials would give two.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _prepare(self, conversation: Sequence[Message]) -> list[Message]:
        harmless = [replace(m, content=self.harmless(m.content)) for m in conversation]
        return _joined(_folded(harmless) if self._folds_system else harmless)

    def harmless(self, text: str) -> str:
        """`text` with no control token of this tokenizer in it: each is broken by a space."""
        for token in self._specials:
            if len(token) > 1:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return self._without_lookalikes(text) if self._changes_letters else text

    def _without_lookalikes(self, text: str) -> str:
        """What the tokenizer takes for control tokens once it has changed letters (wide ones, capitals), broken too."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
        for start in reversed([start for token, (start, _) in pairs if token in self._special_ids]):
            text = f"{text[: start + 1]} {text[start + 1 :]}"
        return text

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        try:
            with within(RENDER_LIMIT_S):
                text = self.tokenizer.apply_chat_template(
                    as_dicts(messages), tokenize=False, add_generation_prompt=add_generation_prompt
                )
        except TimeoutError as error:
            raise ModelError("This model's chat template does not come to an end. Take another model.") from error
        except MemoryError as error:
            raise ModelError(WRITES_TOO_MUCH) from error
        except SecurityError as error:
            raise ModelError(NOT_RUN.format(_reason(error))) from error
        except TEMPLATE_ERRORS as error:
            raise TemplateRefusal(f"This model's chat template refuses the conversation: {_reason(error)}.") from error
        if len(text) > MAX_ADDED_CHARS + 4 * sum(len(m.content) for m in messages):
            raise ModelError(WRITES_TOO_MUCH)
        return str(text)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200].rstrip(".")


def _control_tokens(tokenizer: Any) -> list[str]:
    """The longest first, so that none is left inside another."""
    source = str(tokenizer.chat_template)
    added = tokenizer.added_tokens_decoder.values()
    # Some bases add the tokens of their roles without calling them special.
    control = {token.content for token in added if token.special or token.content.strip() and token.content in source}
    return sorted({*tokenizer.all_special_tokens, *control}, key=len, reverse=True)


def _changes_letters(tokenizer: Any) -> bool:
    """Whether it looks for some added token in a text that it has changed first."""
    is_changed = tokenizer.is_fast and tokenizer.backend_tokenizer.normalizer is not None
    return is_changed and any(token.normalized for token in tokenizer.added_tokens_decoder.values())


def _folded(messages: Sequence[Message]) -> list[Message]:
    """The system text moved to the top of the first user turn, where every template keeps it."""
    system = "\n\n".join(m.content for m in messages if m.role is Role.SYSTEM)
    rest = [m for m in messages if m.role is not Role.SYSTEM]
    if not system or not rest or rest[0].role is not Role.USER:
        return rest
    return [replace(rest[0], content=f"{system}\n\n{rest[0].content}"), *rest[1:]]


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Consecutive turns of one role as one turn: many templates insist on taking turns."""
    return [
        Message(role, "\n\n".join(m.content for m in turns)) for role, turns in groupby(messages, key=lambda m: m.role)
    ]
