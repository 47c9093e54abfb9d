from __future__ import annotations

from rstbench.spec.training import Augmentation, SearchSpec, TrainingSpec


def test_later_fields_are_written_only_where_they_were_set() -> None:
    assert TrainingSpec().written()["augmentation"] == {"padding": 4, "flip": True}
    assert not {"objective", "family", "score_scale"} & set(SearchSpec().written())
    spec = TrainingSpec(objective="trades", augmentation=Augmentation(kind="resized_crop"))
    assert spec.written()["augmentation"] == {"padding": 4, "flip": True, "kind": "resized_crop"}
    assert spec.written()["objective"] == "trades" and "trades_beta" not in spec.written()


def test_what_is_written_is_read_again() -> None:
    for augmentation in (Augmentation(), Augmentation(kind="resized_crop", min_scale=0.25)):
        spec = TrainingSpec(augmentation=augmentation)
        assert TrainingSpec.model_validate(spec.written(), strict=False) == spec
