"""A program source's objects, and what the project says of them -> the text of its skeleton.

Input: the objects, one for each architecture, those of the whole project, and its options. Output: the text, or
`SkeletonError`. A text that an earlier build made of the same is found again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hatch_bpf.objects.model import ObjectModel
from hatch_bpf.project.config import Config
from hatch_bpf.project.sources import BPF_DIR, ProgramSource
from hatch_bpf.runtime.host.digest import sha256
from hatch_bpf.support.store import Store


def skeleton_text(
    source: ProgramSource,
    models: Mapping[str, ObjectModel],
    config: Config,
    programs: Sequence[ObjectModel],
    *,
    kernels: tuple[str, str],
    libraries: str,
) -> str:
    """The skeleton of one program source. `programs` are all objects of the project.

    `kernels` is the file of minimized BTFs and its sha256, `libraries` the sha256 of the list of bundled libraries.
    """
    objects = {arch: (f"{arch}/{model.path}", sha256(model.elf)) for arch, model in models.items()}

    def make() -> str:
        # late, for builds that find the text again
        from hatch_bpf.skeleton.generate import SkeletonOptions, buffers_of, class_name, generate, type_of

        own = next(iter(models.values()))
        # names that another program has are not looked for here; names that none has are reported by `generate()`
        buffers = [buffers_of(model, config.alternatives.of_object(model)) for model in (own, *programs)]
        stems = {model.name for model in programs}
        events: dict[str, str] = {}
        for key, type_name in config.events.items():
            stem, _, buffer = key.rpartition(".")
            if stem in stems:
                if stem == source.name:
                    events[buffer] = type_name
            elif key in buffers[0] or not any(key in of_program for of_program in buffers):
                events.setdefault(key, type_name)  # a key that names the program takes precedence
        elsewhere = {name for name in config.types if any(type_of(program, name) for program in programs)}
        types = tuple(name for name in config.types if type_of(own, name) or name not in elsewhere)
        options = SkeletonOptions(
            source=str(source.path),
            class_name=class_name(source.name),
            runtime=f"{'.' * (source.depth + 1)}{BPF_DIR}.runtime",
            bpf_dir="/".join([".."] * source.depth + [BPF_DIR]),
            objects=objects,
            kernels=kernels,
            libraries=libraries,
            events=events,
            alternatives=config.alternatives,
            types=types,
        )
        return generate(models, options=options)

    # all that the text depends on
    others = [(model.path, sha256(model.elf)) for model in programs]
    asked = (config.events, config.alternatives, config.types)
    return Store().text("skeleton", repr((source, objects, others, asked, kernels, libraries)), make)
