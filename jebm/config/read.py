"""Reads parameter files and checks them. ``jebm.config.files`` defines which files belong together.

A study has a base and variants, each of which is a block of overrides on the base. Mappings are merged key by key;
everything else is replaced, and so is a component whose ``name`` the override changes, since another component has
other parameters. ``jebm.config.inherit`` defines how studies, variants and tables inherit from others.
"""

import re
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jebm.config.assets import Asset, asset_names
from jebm.config.components import Section
from jebm.config.files import current_params_file, load_yaml, params_files, parse_yaml
from jebm.config.inherit import (
    EXTENDS,
    OWN,
    PRESETS,
    Block,
    Place,
    inherited,
    merge,
    merge_order,
    named_blocks,
    place_of,
)
from jebm.config.messages import explain, suggestion
from jebm.config.schema import Base, Params, Study
from jebm.config.tables import Table
from jebm.errors import ParamsError


def read_params(path: Path | None = None) -> Params:
    """Read and check a parameter file; by default that of this process.

    Raises:
        ParamsError: one line for each mistake, which names the file, the key and what is allowed.
    """
    main, *others = params_files(Path(path or current_params_file()))
    return parse_params(load_yaml(main), str(main), {str(file): load_yaml(file) for file in others})


def parse_params(raw: Any, source: str = "params.yaml", others: dict[str, Any] | None = None) -> Params:
    """Check parameters that are already in memory; see :func:`read_params`.

    Args:
        source: name of the file in messages.
        others: content of the other files that belong to it, by their names.
    """
    if not isinstance(raw, dict):
        raise ParamsError(f"{source}: must be a mapping with the keys default_studies, runtime and one block per study")
    blocks = {str(key): Block(Place(source, str(key)), content) for key, content in raw.items()}
    for file, content in (others or {}).items():
        name = Path(file).stem
        if name in blocks:
            raise ParamsError(f"{file}: '{name}' also stands in {blocks[name].place.file}; remove one of the two")
        if name in _TOP and name != "assets":
            raise ParamsError(f"{file}: '{name}' is a block of {source} itself and no study; move it there")
        if not isinstance(content, dict):
            raise ParamsError(f"{file}: must be a block of settings, not {content!r}")
        blocks[name] = Block(Place(file), content)
    top = {key: blocks.pop(key) for key in _TOP if key in blocks}
    if not blocks:
        raise ParamsError(f"{source}: has no study")
    for name, (place, content) in blocks.items():
        if problem := study_name_problem(name):
            raise ParamsError(f"{place}: {problem}")
        if not isinstance(content, dict):
            raise ParamsError(f"{place}: must be a study's block of settings, not {content!r};{suggestion(name, _TOP)}")
    presets = named_blocks(*top.pop(PRESETS, Block(Place(source, PRESETS), {})))
    assets = named_blocks(*top.pop("assets", Block(Place(source, "assets"), {})))
    studies: dict[str, Study] = {}
    for name in blocks:
        _add_study(name, blocks, presets, studies)
    content = {
        **{key: block.content for key, block in top.items()},
        "assets": {name: _validate(Asset, block.content, [block]) for name, block in assets.items()},
        "studies": {name: studies[name] for name in blocks},
    }
    params = _validate(Params, content, [Block(Place(source), content)])
    _names_exist(params, {name: block.place for name, block in blocks.items()}, source)
    return params


def _add_study(name: str, blocks: dict[str, Block], presets: dict[str, Block], studies: dict[str, Study]) -> None:
    """Check a study after the one that it extends, so that a mistake is reported in the file in which it was made."""
    if name in studies:
        return
    base, own_presets = inherited(name, blocks)
    place, content = blocks[name]
    if EXTENDS in content:
        _add_study(content[EXTENDS], blocks, presets, studies)
    studies[name] = _study(place, base, content, {**presets, **own_presets})


def _study(place: Place, base: dict, content: dict, presets: dict[str, Block]) -> Study:
    seeds = {"seeds": base["seeds"]} if "seeds" in base else {}
    base = {key: value for key, value in base.items() if key != "seeds"}
    if unknown := [key for key in base if key not in Base.model_fields]:
        allowed = [EXTENDS, PRESETS, *(key for key in Study.model_fields if key != "base"), *Base.model_fields]
        raise ParamsError(f"{place.at(str(unknown[0]))}: unknown key;{suggestion(unknown[0], allowed)}")
    checked_base = _validate(Base, base, [Block(place, base)])
    variants = content.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise ParamsError(f"{place.at('variants')}: must map the name of each variant to its overrides")
    variants = named_blocks(place.at("variants"), variants)
    for block in presets.values():
        merge_order(block, {}, presets, {**Base.model_fields, **Table.model_fields})
    own = {key: content[key] for key in OWN if key in content}
    own["variants"] = {
        name: _merged(Base, base, merge_order(block, variants, presets, Base.model_fields))
        for name, block in variants.items()
    }
    if isinstance(own.get("tables"), dict):
        tables = named_blocks(place.at("tables"), own["tables"])
        every = {"variants": list(variants)}
        own["tables"] = {
            name: _merged(Table, every, merge_order(block, tables, presets, Table.model_fields))
            for name, block in tables.items()
        }
    return _validate(Study, {**seeds, **own, "base": checked_base}, [Block(place, own)])


def _merged(model: type[Section], base: dict, blocks: list[Block]) -> Any:
    """Merge blocks over a base, one after the other, and check the result."""
    return _validate(model, reduce(merge, (block.content for block in blocks), base), blocks)


def with_overrides(params: Base, text: str, where: str) -> Base:
    """A variant with a block of overrides merged over it.

    Args:
        text: the block as YAML, such as ``backbone: {encoder_channels: 8}``.
        where: name of the text in messages.

    Raises:
        ParamsError: it is not a block, or not a valid one for a variant.
    """
    overrides = parse_yaml(text, where)
    if not isinstance(overrides, dict):
        raise ParamsError(
            f"{where}: must be a block of overrides such as 'backbone: {{layers_per_scale: [2]}}', not {text!r}"
        )
    return _merged(Base, params.model_dump(), [Block(Place(where), overrides)])


def canonical(section: BaseModel) -> dict:
    """The values that identify a block: all that differ from the defaults, so that a new key with a default changes no
    identity."""
    return section.model_dump(mode="json", exclude_defaults=True)


RESERVED = (
    "all", "core", "tables", "figures", "assets", "benchmark", "fetch_asset", "bench", "prepare_dataset",
    "train_features", "reference_statistics", "import_backbone", "train_backbone", "train_prior", "train_joint",
    "draw_samples", "resample_layers", "evaluate_floor", "evaluate_samples", "evaluate_density", "run_evaluation",
    "count_operations",
    "collect_metrics", "collect_plots", "render_table", "render_figure",
)  # fmt: skip
"""Names of Snakemake's rules, which no study can have, because each study is a target with its own name."""
_TOP = ("default_studies", "core_studies", "runtime", "presets", "assets")


def study_name_problem(name: str) -> str | None:
    """Why a study can't have this name, or None. Its name is a target of Snakemake, a folder and a word of commands."""
    if name in RESERVED or name.startswith("assets_"):
        return f"a study can't be called '{name}', since a rule of Snakemake is"
    if name in _TOP:
        return f"a study can't be called '{name}', since another block of the parameters is"
    if not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
        return f"a study can't be called '{name}': its name must be letters, digits, underscores and hyphens"
    return None


def _names_exist(params: Params, places: dict[str, Place], source: str) -> None:
    for name, study in params.studies.items():
        for variant_name, variant in study.variants.items():
            for asset in asset_names(variant):
                if asset not in params.assets:
                    where = places[name].at("variants", variant_name)
                    raise ParamsError(f"{where}: '{asset}' is no asset;{suggestion(asset, params.assets)}")
    for key in ("default_studies", "core_studies"):
        for name in getattr(params, key):
            if name not in params.studies:
                raise ParamsError(f"{source}: {key}: '{name}' is no study;{suggestion(name, params.studies)}")


def _validate(model: type[Section], raw: Any, blocks: list[Block]) -> Any:
    """Check the merge of some blocks. A mistake in one key is reported where the key is written; a conflict between
    several keys is reported for the last block, which combines them."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines, meant = [], set()
        for detail in sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden"):
            key, message = explain(model, raw, detail)
            block, _, name = key.rpartition(".")
            if near := re.search("did you mean '(.+?)'", message):
                meant.add((block, near[1]))
            if detail["type"] == "missing" and (block, name) in meant:
                continue  # it is there, mistyped
            between = str(detail.get("ctx", {}).get("error", "")).startswith("@")
            place = blocks[-1].place if between else place_of(key, blocks)
            lines.append(f"{place.at(key)}: {message}")
        raise ParamsError("\n".join(dict.fromkeys(lines))) from None
