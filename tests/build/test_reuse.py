"""Attacks that keep what fools a network within smaller epsilons, on a network that was trained on digits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from rstbench.build import Bench, run_node
from rstbench.data.sources import facts
from rstbench.errors import StoreError
from rstbench.evaluation.files import unpack_images
from rstbench.plan import Node, Plan, plan
from rstbench.spec.attack_fields import Bounded
from rstbench.spec.attacks import CraftedSpec
from rstbench.spec.base import distance
from rstbench.spec.battery import attack_spec
from rstbench.spec.load import load_suite
from rstbench.spec.suite import Cell
from rstbench.store import Store, Value
from tests.suites import TINY, changed, written

EPSILONS = ("2/85", "16/255", "8/51")  # 6, 16 and 40 pixel values, in lowest terms as specs write them
N = 40
FAST = {"samples": N, "batch": 16}
ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 5, "step_size": "8/255"},
    "stopped": {"kind": "pgd", "steps": 5, "step_size": "8/255", "stop": "source_fooled"},
    "apgd": {"steps": 5},
    "fgsm": {},
    "cw_inf": {"form": "bounded", "steps": 5},
    "square": {"queries": 30},
    "bandits": {"queries": 30},
    "autoattack": {"steps": 2, "square_queries": 4},
}


def attack(name: str, place: int, reuse: bool = True) -> CraftedSpec:
    """The attack at one of EPSILONS, alone or after all before it."""
    smaller = {"smaller_epsilons": EPSILONS[:place]} if reuse else {}
    spec = attack_spec({"kind": name, **ATTACKS[name], **FAST, "epsilon": EPSILONS[place], **smaller}, name)
    assert isinstance(spec, Bounded)
    return spec  # type: ignore[return-value]


def silent(done: float, total: float, note: str) -> None:
    pass


class Desk:
    """A store with a dense network of two epochs, and what attacks on it leave."""

    def __init__(self, root: Path) -> None:
        text = changed(TINY, ("epochs: 1\n    batch: 256", "epochs: 2\n    batch: 64"))
        self.suite = load_suite(written(root, text))
        self.store = Store(root / "store")
        self.store.prepare()
        self.bench = Bench(self.store, None, torch.device("cpu"))
        self.facts = {spec: facts(spec, None) for spec in self.suite.run.datasets.values()}

    def planned(self, *attacks: CraftedSpec) -> Plan:
        named = {f"a{i}": spec.model_copy(update={"variant": str(i)}) for i, spec in enumerate(attacks)}
        cells = tuple(Cell(defense="dense_at", attack=name) for name in named)

        def side(spec: Any) -> Any:
            table = spec.table.model_copy(update={"cells": cells})
            return spec.model_copy(update={"attacks": named, "table": table})

        suite = self.suite.model_copy(update={"paper": side(self.suite.paper), "run": side(self.suite.run)})
        return plan(suite, self.facts)

    def run(self, made: Plan) -> list[tuple[Value, Value]]:
        """Craft and predict values of each cell."""
        for node in made.nodes.values():
            run_node(node, self.bench, silent)
        judged = [made.nodes[cell.predictions[0][0][0]] for cell in made.cells]
        return [(self.store.value(node.inputs["images"]), self.store.value(node.key)) for node in judged]

    def made(self, *attacks: CraftedSpec) -> list[tuple[Value, Value]]:
        return self.run(self.planned(*attacks))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


def table(value: Value) -> dict[str, np.ndarray]:
    read = parquet.read_table(io.BytesIO(value.read("samples.parquet")))
    return {name: read.column(name).to_numpy() for name in read.column_names}


def images(value: Value) -> torch.Tensor:
    return unpack_images(value.read("images.safetensors"), "here")


def right(value: Value) -> np.ndarray:
    columns = table(value)
    found: np.ndarray = columns["prediction"] == columns["label"]
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_what_fell_is_kept_and_the_rest_attacked(desk: Desk, name: str) -> None:
    chain = desk.made(*(attack(name, place) for place in range(3)))
    alone = desk.made(*(attack(name, place, reuse=False) for place in range(3)))
    assert chain[0][0].key == alone[0][0].key and chain[2][0].key != alone[2][0].key
    for place in (1, 2):
        craft, judged = chain[place]
        stood = right(chain[place - 1][1])
        before, found = images(chain[place - 1][0]), images(craft)
        # To the bit what fooled there, and so the verdict is the same: accuracy never rises with epsilon.
        assert torch.equal(found[~stood], before[~stood])
        assert not right(judged)[~stood].any()
        assert 0 < (~stood).sum() < N, "a test of nothing"
        columns = table(craft)
        assert (columns["linf"] <= distance(EPSILONS[place]) + 1e-6).all()
        assert (columns["linf"] <= columns["epsilon"] + 1e-6).all()
        attacked = columns["epsilon"] == distance(EPSILONS[place])
        assert np.array_equal(attacked, stood)
        kept = craft.record["kept"]
        assert set(kept) == set(EPSILONS[:place]) and sum(kept.values()) == (~stood).sum()
        assert kept[EPSILONS[0]] == (~right(chain[0][1])).sum()
        assert "reused_smaller_epsilon" in craft.record["flags"]
        # What is attacked meets the same images, labels and random numbers as without reuse. So the two agree there up
        # to what their batches round, and reuse can only take away what the larger budget missed.
        worse = right(judged).mean() - right(alone[place][1]).mean()
        assert worse <= (0.05 if name == "autoattack" else 0.02)
    for craft, _ in (*alone, chain[0]):
        assert "kept" not in craft.record and "epsilon" not in table(craft)
        assert "reused_smaller_epsilon" not in craft.record["flags"]


def test_images_that_are_attacked_are_those_without_reuse(desk: Desk) -> None:
    chain, alone = (desk.made(attack("pgd", 2, reuse))[0][0] for reuse in (True, False))
    rest = table(chain)["epsilon"] == distance(EPSILONS[2])
    assert 0 < rest.sum() < N
    same = (images(chain) - images(alone)).abs().flatten(1).amax(1)[torch.from_numpy(rest)] < 1e-5
    assert float(same.float().mean()) > 0.9  # signs of gradients near zero may differ with the batch


def test_only_the_rest_costs(desk: Desk) -> None:
    chain = [craft for craft, _ in desk.made(*(attack("pgd", place) for place in range(3)))]
    whole = desk.made(attack("pgd", 2, reuse=False))[0][0].record["passes"]["gradient"]
    for craft in chain[1:]:
        rest = int((table(craft)["epsilon"] == table(craft)["epsilon"].max()).sum())
        batch = min(16, rest)
        assert craft.record["passes"]["gradient"] == 5 * -(-rest // batch) * batch < whole


@pytest.mark.parametrize("name", ["square", "bandits"])
def test_queries_are_those_of_all_epsilons(desk: Desk, name: str) -> None:
    first, second = (table(craft) for craft, _ in desk.made(*(attack(name, place) for place in range(2))))
    kept = second["epsilon"] == distance(EPSILONS[0])
    assert np.array_equal(second["queries"][kept], first["queries"][kept])
    assert (second["queries"][~kept] > first["queries"][~kept]).all()
    assert (second["queries"] <= 2 * 30).all() and (second["queries"][~kept] > 30).all()


def test_an_l2_chain(desk: Desk) -> None:
    fields = {"kind": "pgd", "norm": "l2", "steps": 5, **FAST}
    chain = [attack_spec({**fields, "epsilon": 1.0}, "pgd"),
             attack_spec({**fields, "epsilon": 2.0, "smaller_epsilons": [1.0]}, "pgd")]  # fmt: skip
    (_, before), (craft, judged) = desk.made(*chain)  # type: ignore[arg-type]
    assert list(craft.record["kept"]) == ["1.0"] and craft.record["kept"]["1.0"] == (~right(before)).sum() > 0
    columns = table(craft)
    assert (columns["l2"] <= columns["epsilon"] + 1e-5).all() and set(columns["epsilon"]) == {1.0, 2.0}
    assert right(judged).sum() < right(before).sum()


def test_where_nothing_stands_any_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {**ATTACKS["pgd"], **FAST, "kind": "pgd", "steps": 20, "batch": 16}
    first, last = (
        attack_spec({**fields, "epsilon": epsilon, "smaller_epsilons": before}, "pgd")
        for epsilon, before in (("250/255", []), ("1", ["250/255"]))
    )
    ((before, judged),) = desk.made(first)  # type: ignore[arg-type]
    assert not right(judged).any()
    monkeypatch.setattr("rstbench.build.attack.craft", None)  # nobody is asked
    ((craft, judged),) = desk.made(last)  # type: ignore[arg-type]
    assert torch.equal(images(craft), images(before)) and not right(judged).any()
    assert craft.record["kept"] == {"50/51": N} and craft.record["passes"] == {"forward": 0, "gradient": 0}
    assert craft.record["attack_seconds"] == 0


def test_a_run_that_was_killed_goes_on(desk: Desk) -> None:
    spec = attack("autoattack", 2).model_copy(update={"batch": 12})
    made = desk.planned(spec)
    crafts = [node for node in made.nodes.values() if node.kind == "craft"]
    for node in (*(node for node in made.nodes.values() if node.kind in ("data", "train")), *crafts[:-1]):
        run_node(node, desk.bench, silent)
    whole = Store(desk.store.root.parent / "whole")
    whole.prepare()

    class Killed(Exception):
        pass

    calls = 0

    def killing(done: float, total: float, note: str) -> None:
        nonlocal calls
        calls += 1
        if note != "images of a smaller epsilon judged" and calls > 4:
            raise Killed

    with pytest.raises(Killed):
        run_node(crafts[-1], desk.bench, killing)
    assert desk.store.read_partial(crafts[-1].key, "state.safetensors") is not None
    resumed = run_node(crafts[-1], desk.bench, silent)
    assert "passes" not in resumed.record, "what was spent before is not known"
    expected = fresh(desk, crafts[-1], whole)
    assert torch.equal(images(resumed), images(expected))
    assert all(np.array_equal(column, table(expected)[name]) for name, column in table(resumed).items())


def fresh(desk: Desk, node: Node, store: Store) -> Value:
    """The node once more, in a store that has its inputs and nothing of it."""
    for key in node.inputs.values():
        value = desk.store.value(key)
        store.write(key, dict(value.record), {name: value.read(name) for name in value.record["files"]})
    return run_node(node, Bench(store, None, torch.device("cpu")), silent)


def test_parts_and_their_join(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = desk.made(attack("pgd", 2))[0]
    monkeypatch.setattr("rstbench.nodes.PART_BYTES", 15 * 4 * 64)
    made = desk.planned(attack("pgd", 2))
    for node in made.nodes.values():
        run_node(node, desk.bench, silent)
    (cell,) = made.cells
    judged = desk.store.value(cell.predictions[0][0][0])
    assert judged.record["kind"] == "join"
    assert abs(right(judged).mean() - right(whole[1]).mean()) <= 0.02
    parts = [desk.store.value(node.key) for node in made.nodes.values() if node.kind == "craft"]
    last = [part for part in parts if len(part.record["spec"]["attack"]["smaller_epsilons"]) == 2]
    assert len(last) == 3 and len(parts) == 9
    inputs = {f"part_{i}": part.key for i, part in enumerate(last)}
    from rstbench.nodes import node_key

    join = run_node(Node("join", node_key("join", {}, inputs), {}, inputs, "together", 0.0), desk.bench, silent)
    assert join.record["kept"] == {
        epsilon: sum(part.record["kept"][epsilon] for part in last) for epsilon in EPSILONS[:2]
    }
    assert np.array_equal(table(join)["index"], table(whole[0])["index"])


def test_images_of_another_choice_are_refused(desk: Desk) -> None:
    made = desk.planned(attack("pgd", 1))
    other = desk.planned(attack("pgd", 0).model_copy(update={"samples": N - 1}))
    for each in (made, other):
        for node in each.nodes.values():
            run_node(node, desk.bench, silent)
    (craft,) = [node for node in made.nodes.values() if "smaller" in node.inputs]
    (wrong,) = [node.key for node in other.nodes.values() if node.kind == "craft"]
    inputs = {**craft.inputs, "smaller": wrong}
    node = Node("craft", "0" * 64, json.loads(json.dumps(craft.spec)), inputs, "of others", 0.0)
    with pytest.raises(StoreError, match="are others than those to attack"):
        run_node(node, desk.bench, silent)
