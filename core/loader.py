"""The resident model: one copy of the base's weights, any number of adapters on it, chosen by request.

Base and adapters are told apart by which LoRA layers take part in a forward pass, so a swap moves no weights.
That the base stayed the base is proven, not assumed: its logits on a fixed probe are taken at load and compared
after every change. Only the engine's main thread may call anything here.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer

from core import adapters, base_files, fingerprint, voices
from core.adapters import Adapter
from core.chat_cache import ChatCache
from core.chat_template import IN_PLAIN_WORDS, ChatTemplate
from core.device import Device, own_randomness, release
from core.errors import AdapterError, InertAdapter, ModelError, PlaygroundError
from core.settings import Settings

BASE = "base"
POLICY = "default"  # TRL trains the adapter of this name, and no other
PROBE_LENGTH = 24
# 0.2 GB each on a 7B base. One that is forgotten is there again in less time than it takes to answer.
MAX_ADAPTERS = 8
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class _Attached:
    """An adapter's name inside PEFT, of fixed width because PEFT matches names by substring, and its version."""

    internal: str
    mark: str


class ResidentModel:
    """A base in memory with its adapters. `model` is the transformers model, whatever is attached."""

    def __init__(self, folder: Path, device: Device, name: str = "") -> None:
        self.folder = folder
        self.name = name or folder.name
        self.device = device
        base_files.check(folder)
        self.fingerprint = fingerprint.of_base(folder)
        self.model, self.tokenizer = base_files.load(folder, device)
        self.template = ChatTemplate(self.tokenizer)
        self._check_vocabulary()
        self.chat_cache = ChatCache()
        self.peft: PeftModel | None = None
        self._attached: dict[str, _Attached] = {}
        self._num_attached = 0
        self._layers: list[LoraLayer] = []
        self._shapes = _linear_shapes(self.model)
        vocabulary = self.model.config.get_text_config().vocab_size
        self._probe_ids = torch.arange(PROBE_LENGTH, device=device.kind)[None] * 7 % vocabulary
        self._probe = self._probe_logits(BASE)
        if not torch.isfinite(self._probe).all():
            raise ModelError(f"{self.name} cannot be used: its answers are not finite numbers. Download it again.")
        # Half precision may round differently from call to call on a GPU: what it does at rest is tolerated.
        self._tolerance = 0.0 if device.is_exact else 4 * _distance(self._probe, self._probe_logits(BASE)) + 1e-3

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for n, p in self.model.named_parameters() if ".lora_" not in n)

    @property
    def memory_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    @property
    def reason(self) -> str:
        """Why it is on this device, and how it is asked where that is not its own way."""
        return self.device.reason + (f"; {IN_PLAIN_WORDS}" if self.template.is_fallback else "")

    @property
    def max_positions(self) -> int:
        return int(self.model.config.get_text_config().max_position_embeddings)

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self._attached)

    def _check_vocabulary(self) -> None:
        rows = self.model.get_input_embeddings().weight.shape[0]
        # Not how many there are: numbers may be left out, and the highest one counts.
        needed = max(self.tokenizer.get_vocab().values(), default=0) + 1
        if needed > rows:
            raise ModelError(f"{self.name} cannot be used: its tokenizer has {needed} tokens, its weights only {rows}.")

    def lora_shapes(self, target_modules: str) -> list[tuple[int, int]]:
        """(out, in) of every layer that an adapter would sit on."""
        ends = {name: name.rpartition(".")[2] for name in self._shapes}
        is_attention = target_modules == "attention"
        chosen = [name for name, end in ends.items() if (end in ATTENTION if is_attention else end != "lm_head")]
        return [self._shapes[name] for name in chosen]

    # Who speaks

    def internal(self, contender: str) -> str | None:
        """PEFT's name of a contender, None for the base; AdapterError where it is not attached."""
        if contender in (BASE, POLICY):
            return None if contender == BASE else POLICY
        if contender not in self._attached:
            raise AdapterError(f"The adapter '{contender}' is not loaded. Choose it again.")
        return self._attached[contender].internal

    def mark(self, contender: str) -> str:
        """What tells one version of an attached contender from the next; nothing for the base."""
        return self._attached[contender].mark if contender in self._attached else ""

    def speaking(
        self, contenders: Sequence[str], strengths: Sequence[float] = ()
    ) -> AbstractContextManager[Callable[[Sequence[int]], None]]:
        """Inside, row i of every batch is answered by `contenders[i]` at `strengths[i]`, at 1 where none are given.

        A single contender speaks for all rows. Calling what it gives with some of the rows leaves them alone in the
        batch, in that order. Each LoRA layer's output is scaled by row: the adapter's own scale times
        the strength for its rows, 0 for all others. What was active before, a policy in training included, is active
        again afterwards, with gradients untouched. AdapterError where a contender is not attached.
        """
        names = [self.internal(contender) for contender in contenders]
        rows = zip(names, strengths or [1.0] * len(names), strict=True)
        # At strength 0 an adapter is the base, and takes no part.
        chosen = [(name, strength) if name and strength else (None, 0.0) for name, strength in rows]
        return voices.speaking(self.model, self._layers, chosen)

    @torch.no_grad()
    def _probe_logits(self, contender: str) -> torch.Tensor:
        with self.speaking([contender]):
            return self.model(input_ids=self._probe_ids, use_cache=False).logits[0, -4:].float().cpu()

    def prove_base(self) -> None:
        """PlaygroundError unless the base answers the probe as it did at load."""
        distance = _distance(self._probe, self._probe_logits(BASE))
        if not distance <= self._tolerance:
            raise PlaygroundError(
                f"The base model in memory has changed (its logits moved by {distance:.2g}), so no answer of it can be "
                "trusted. Restart the playground."
            )

    # Adapters come and go

    def attach(self, name: str) -> None:
        """Make a finished adapter answer; AdapterError, with everything as it was, where it must not.

        A newer adapter of the same name takes the older one's place once it has proven itself.
        """
        folder = adapters.find(name)
        mark = adapters.mark_of(folder)
        old = self._attached.get(name)
        if old and old.mark == mark:
            return
        adapter = adapters.verify(folder)
        self._check_base(name, adapters.read_manifest(folder), adapter.base)
        adapters.check_fits(name, adapter.weights, self._shapes)
        self._num_attached += 1
        new = _Attached(f"adapter_{self._num_attached:04d}", mark)
        with contextlib.ExitStack() as undo:
            undo.callback(self._put_back, name, old)
            undo.callback(self._remove, new.internal)
            # PEFT draws first weights that are overwritten at once, and a run draws from the same random state.
            with own_randomness(self.device.kind, 0):
                self._add(self._config_of(adapter), new.internal, adapter)
            self._attached[name] = new
            self.prove_base()
            if torch.equal(self._probe_logits(name), self._probe_logits(BASE)):
                raise InertAdapter(f"The adapter '{name}' changes nothing: it answers exactly as the base does.")
            undo.pop_all()
        if old:
            self._remove(old.internal)

    def _check_base(self, name: str, manifest: dict[str, Any], base: str) -> None:
        if not manifest and Path(base).name != Path(self.name).name:
            raise AdapterError(
                f"The adapter '{name}' was made elsewhere and says that it belongs to {base[:80] or 'no base'}, and "
                f"{self.name} is loaded. Choose that base; or where you are sure that it is this one, write "
                f'"{self.name}" as base_model_name_or_path into its {adapters.CONFIG}.'
            )
        if manifest and manifest["base_fingerprint"] != self.fingerprint:
            raise AdapterError(
                f"The adapter '{name}' was trained on {manifest.get('model', 'another base')}, and {self.name} is "
                "loaded. Choose that base first."
            )

    def _put_back(self, name: str, old: _Attached | None) -> None:
        self._attached.pop(name, None)
        if old:
            self._attached[name] = old

    def _config_of(self, adapter: Adapter) -> LoraConfig:
        """PEFT's configuration, of what was verified alone: nothing else in the adapter's file reaches PEFT."""
        return _config(adapter.rank, adapter.alpha, adapter.dropout, _targets(adapter.modules, self._shapes))

    def _add(self, config: LoraConfig, internal: str, adapter: Adapter | None) -> None:
        config.inference_mode = internal != POLICY
        was_active = {layer: layer._active_adapter for layer in self._layers}
        resting: list[str] = next(iter(was_active.values()), [])
        if self.peft is None:
            # Not `train`: PEFT turns every parameter of the base off by itself.
            self.peft = PeftModel(self.model, config, adapter_name=internal)
        else:
            self.peft.add_adapter(internal, config)
        self._layers = _lora_layers(self.model)
        for layer in self._layers:
            # PEFT makes the newcomer active on layers that had none: a policy in training would learn on top of it.
            layer._active_adapter = was_active.get(layer, resting)
            # And in training mode, where its dropout would draw from the run's random state and change its answers.
            layer.train(self.model.training)
        if adapter is not None:
            set_peft_model_state_dict(self.peft, dict(adapter.weights), adapter_name=internal)
        if internal != POLICY:
            self._freeze(internal)

    def _freeze(self, internal: str) -> None:
        for name, parameter in self.model.named_parameters():
            if f".{internal}." in name:
                parameter.requires_grad_(False)

    def trim(self, but: Collection[str]) -> bool:
        """Forget those that came first where there are more than MAX_ADAPTERS, but none of these; whether any were.

        Not beside a run, which counts on those that it asks again and again.
        """
        excess = max(0, len(self._attached) - MAX_ADAPTERS)
        forgotten = [name for name in self._attached if name not in but][:excess]
        for name in forgotten:
            self.detach(name)
        return bool(forgotten)

    def detach(self, name: str) -> None:
        """Forget an adapter; its files stay."""
        known = self._attached.pop(name, None)
        if known:
            self._remove(known.internal)
            self.prove_base()

    def _remove(self, internal: str) -> None:
        """Take an adapter off, one that was only half added too."""
        for layer in _lora_layers(self.model):
            # Else PEFT makes another adapter active in its stead, and trainable.
            layer._active_adapter = [name for name in layer.active_adapters if name != internal]
            layer.delete_adapter(internal)
        if self.peft is not None and internal in self.peft.peft_config:
            self.peft.delete_adapter(internal)
        if self.peft is None or not self.peft.peft_config:
            _strip(self.model)
            self.peft = None
        self._layers = _lora_layers(self.model)
        release(self.device.kind)

    # The one in training

    def open_policy(self, settings: Settings, from_adapter: str = "") -> PeftModel:
        """The adapter to be trained, new from the seed or a copy of a finished one, active and trainable."""
        torch.manual_seed(settings.seed)
        adapter = adapters.verify(adapters.find(from_adapter)) if from_adapter else None
        self._add(self._config_of(adapter) if adapter else _config_for(settings), POLICY, adapter)
        assert self.peft is not None
        self.peft.set_adapter(POLICY)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(f".{POLICY}." in name)
        return self.peft

    def drop_reference(self) -> None:
        """Take off the frozen copy of the policy that TRL makes: its log-probabilities are known already."""
        if self.peft is not None and "ref" in self.peft.peft_config:
            self._remove("ref")

    def close_policy(self) -> None:
        """Take the trained adapter off again."""
        self.drop_reference()
        if self.peft is not None and POLICY in self.peft.peft_config:
            self._remove(POLICY)
        self.model.eval()
        self.prove_base()


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def _config_for(settings: Settings) -> LoraConfig:
    targets = "all-linear" if settings.target_modules == "all-linear" else list(ATTENTION)
    return _config(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, targets)


def _config(rank: int, alpha: float, dropout: float, targets: str | list[str]) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")


def _targets(modules: set[str], known: Iterable[str]) -> list[str]:
    """What names exactly these modules to PEFT: the ends of their names where that is enough."""
    ends = {name.rpartition(".")[2] for name in modules}
    return sorted(ends if {name for name in known if name.rpartition(".")[2] in ends} == modules else modules)


def _lora_layers(model: torch.nn.Module) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _strip(model: torch.nn.Module) -> None:
    """The base's own layers where LoRA's stood around them: PEFT cannot be left without any adapter."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            model.set_submodule(name, module.get_base_layer())
    model.__dict__.pop("peft_config", None)


def _linear_shapes(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    return {n: tuple(m.weight.shape) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
