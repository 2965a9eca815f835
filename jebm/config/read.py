"""Reading ``params.yaml``: YAML to checked types, studies that extend others, variants laid over their base.

A study is a base and a list of variants. A variant is a block of overrides on the base: mappings are merged key by
key, everything else is replaced, and so is a component whose ``name`` the override changes, since another component
has other parameters. A study may extend another one: it starts from that one's seeds and base in the same way.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from jebm.config.assets import asset_names
from jebm.config.components import Section
from jebm.config.messages import explain, near
from jebm.config.schema import Base, Params, Study
from jebm.errors import ParamsError

PARAMS = Path("params.yaml")


def read_params(path: Path = PARAMS) -> Params:
    """Read and check a parameter file.

    Raises:
        ParamsError: one line a mistake, naming the file, the key and what is allowed.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the repository's top folder") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return parse_params(raw, str(path))


def parse_params(raw: Any, source: str = str(PARAMS)) -> Params:
    """Check parameters that are already in memory, such as Snakemake's ``config``; see :func:`read_params`."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{source}: must be a mapping with the keys default_studies, runtime and one block a study")
    raw = {str(key): value for key, value in raw.items()}
    top = {key: raw.pop(key) for key in _TOP if key in raw}
    if not raw:
        raise ParamsError(f"{source}: has no study")
    studies = {name: _study(name, _extended(name, raw, source), source) for name in raw}
    params = _validate(Params, {**top, "studies": studies}, "", source)
    _assets_exist(params, source)
    for key in ("default_studies", "core_studies"):
        for name in getattr(params, key):
            if name not in studies:
                raise ParamsError(f"{source}: {key}: '{name}' is no study;{near(name, studies)}")
    return params


def _extended(name: str, blocks: dict, source: str, below: tuple[str, ...] = ()) -> Any:
    """A study's block, laid over the seeds and the base of the study that it ``extends``."""
    block = blocks[name]
    if not isinstance(block, dict) or "extends" not in block:
        return block
    other, seen = block["extends"], (*below, name)
    if other not in blocks:
        raise ParamsError(f"{source}: {name}.extends: '{other}' is no study;{near(other, blocks)}")
    if other in seen:
        raise ParamsError(f"{source}: {name}.extends: '{other}' extends this study itself")
    inherited = _extended(other, blocks, source, seen)
    if not isinstance(inherited, dict):
        return block
    base = {key: value for key, value in inherited.items() if key not in ("variants", "tables", "figures")}
    return merge(base, {key: value for key, value in block.items() if key != "extends"})


def _study(name: str, block: Any, source: str) -> Study:
    if not isinstance(block, dict):
        raise ParamsError(f"{source}: {name}: must be a study's block of settings, not {block!r};{near(name, _TOP)}")
    block = dict(block)
    own = {key: block.pop(key) for key in ("seeds", "variants", "tables", "figures") if key in block}
    unknown = [key for key in block if key not in Base.model_fields]
    if unknown:
        allowed = ["extends", *(k for k in Study.model_fields if k != "base"), *Base.model_fields]
        raise ParamsError(f"{source}: {name}.{unknown[0]}: unknown key;{near(unknown[0], allowed)}")
    variants = own.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise ParamsError(f"{source}: {name}.variants: must map the name of each variant to its overrides")
    base = _validate(Base, block, name, source)
    resolved = {}
    for variant, overrides in variants.items():
        where = f"{name}.variants.{variant}"
        if not isinstance(overrides, dict):
            raise ParamsError(f"{source}: {where}: must be a block of overrides ({{}} for none), not {overrides!r}")
        resolved[str(variant)] = _validate(Base, merge(block, overrides), where, source)
    own["variants"] = resolved
    return _validate(Study, {**own, "base": base}, name, source)


def merge(base: dict, overrides: dict) -> dict:
    """``base`` with ``overrides`` laid over it; a component given another ``name`` replaces the block it overrides."""
    if overrides.get("name", base.get("name")) != base.get("name"):
        return overrides
    merged = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def overridden(params: Base, text: str, where: str) -> Base:
    """A variant with a block of overrides laid over it, as the overrides of a variant are over the base.

    Args:
        text: the block as YAML, such as ``backbone: {encoder_channels: 8}``.
        where: what the text is, for messages.

    Raises:
        ParamsError: it is no block, or one that a variant can't have.
    """
    try:
        overrides = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ParamsError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(overrides, dict):
        raise ParamsError(f"{where}: must be a block of overrides such as 'backbone: {{groups: [2]}}', not {text!r}")
    return _validate(Base, merge(params.model_dump(), overrides), "", where)


def canonical(section: BaseModel) -> dict:
    """What identifies a block: its values without the defaults, so that a new key with a default changes no digest."""
    return section.model_dump(mode="json", exclude_defaults=True)


_TOP = ("default_studies", "core_studies", "runtime", "assets")


def _assets_exist(params: Params, source: str) -> None:
    for study_name, study in params.studies.items():
        for variant_name, variant in study.variants.items():
            for name in asset_names(variant):
                if name not in params.assets:
                    where = f"{study_name}.variants.{variant_name}"
                    raise ParamsError(f"{source}: {where}: '{name}' is no asset;{near(name, params.assets)}")


def _validate(model: type[Section], raw: dict, where: str, source: str) -> Any:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        explained = [explain(model, raw, detail) for detail in error.errors()]
        lines = [f"{source}: {'.'.join(filter(None, [where, key]))}: {message}" for key, message in explained]
        raise ParamsError("\n".join(dict.fromkeys(lines))) from None


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML keeps the last of two equal keys and says nothing; an experiment must not depend on that.

    Every job reads the file: libyaml's parser, where PyYAML has it, takes a tenth of the time.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key '{key}' stands twice in one block")
            seen.add(key)
        return super().construct_mapping(node, deep)
