"""The model card says, to be read and not decoded: data, training, evaluation, limits."""

import json
import re
from typing import Any

import pytest

from trainer.models.card import LIMITS, model_card

EPOCH = {
    "epoch": 2,
    "step": 32,
    "loss": 4.754879,
    "precision_at_1": 0.54745,
    "lift_at_5": None,
    "seconds": 11.6,
}
SCORES: dict[str, Any] = {
    "precision_at": {"1": 0.62, "2": 0.6, "5": 0.55, "10": 0.506},
    "lift_at_5": {"macro": 0.041, "findings": {}},
    "ndcg_at_10": 0.513,
}


@pytest.fixture
def record() -> dict[str, Any]:
    return {
        "name": "real",
        "architecture": "mobilenetv2-minilm",
        "fingerprint": "519410bbfc87cc26",
        "plain_open_clip": True,
        "licence": "The data's licences bind its use.",
        "data": [
            {"source": "openi:openi", "subjects": 2517, "pictures": 1, "licence": "CC BY-NC-ND 4.0"},
            {"source": "phantom:9", "subjects": 9, "pictures": 9, "texts": 9, "licence": "none | free"},
        ],
        "subjects": {"salt": "5a17", "hashes": ["aa11", "bb22", "cc33"]},
        "starts": {"image": "../mine/mobilenetv2.safetensors", "text": "package:minilm"},
        "config": {"epochs": 10, "corpus": ["openi:openi"], "loss": {"name": "dhn-nce", "temperature": 0.6}},
        "metrics": {"held_out_for_tuning": EPOCH},
        "epochs": [{**EPOCH, "epoch": 1, "precision_at_1": 0.48175}, EPOCH],
        "problems": {"missing": 6124, "skipped": 71},
        "files": {"config.json": "b3f8a888"},
    }


def cells(card: str, first: str) -> list[str]:
    """The table row with this first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in card.splitlines()]
    return next(row for row in rows if row[0] == first)


def test_it_says_that_it_is_no_medical_device_and_where_its_limits_are(record: dict[str, Any]) -> None:
    for least in (record, {key: record[key] for key in ("name", "architecture", "fingerprint")}):
        card = model_card(least)
        assert LIMITS in card
        assert card.count("Not a medical device") == 2  # at the top, and among the limits
        assert card.startswith("# real\n")
        assert "`519410bb`" in card


def test_the_data_are_a_table_with_numbers_and_licences(record: dict[str, Any]) -> None:
    card = model_card(record)
    assert cells(card, "source") == ["source", "subjects", "pictures", "licence", "texts"]
    assert cells(card, "openi:openi") == ["openi:openi", "2517", "1", "CC BY-NC-ND 4.0", "–"]
    assert cells(card, "phantom:9") == ["phantom:9", "9", "9", r"none \| free", "9"]
    assert "3 subjects" in card
    assert "6124 missing, 71 skipped" in card
    assert record["licence"] in card


def test_the_card_gives_the_licence_of_imported_models_too(record: dict[str, Any]) -> None:
    card = model_card({**record, "data": [], "metrics": {}, "epochs": [], "config": {}})
    assert f"## Licence\n\n{record['licence']}" in card
    assert "## Training data" not in card
    assert "## Evaluation" not in card


def test_the_evaluation_is_a_table_and_so_is_every_epoch(record: dict[str, Any]) -> None:
    card = model_card(record)
    assert "### Held out for tuning" in card
    assert cells(card, "precision at 1")[:2] == ["precision at 1", "0.5474"]
    assert cells(card, "lift at 5")[1] == "–"
    assert cells(card, "1") == ["1", "32", "4.755", "0.4818", "–", "11.6"]


def test_what_evaluate_printed_stands_above_its_baselines(record: dict[str, Any]) -> None:
    side = {"source": "openi:openi", "kind": "image", "items": 150, "subjects": 108}
    interval = {"precision_at": {"1": [0.54, 0.7]}, "lift_at_5": {"macro": [-0.02, 0.1]}, "ndcg_at_10": None}
    record["evaluations"] = [
        {
            **SCORES,
            "split": "test",
            "queries": side,
            "gallery": {**side, "kind": "report", "items": 311},
            "seen_subjects": 0,
            "ci95": interval,
            "baselines": {"random": SCORES, "normal_abnormal": {**SCORES, "ndcg_at_10": 0.524}},
            "per_finding": [
                {
                    "finding": "edema",
                    "queries": 12,
                    "gallery": 9,
                    "precision_at_5": 0.4,
                    "lift_at_5": 0.2,
                    "ci95": [0.1, 0.3],
                    "in_macro": True,
                }
            ],
        }
    ]
    card = model_card(record)
    assert "150 query images of 108 subjects, 311 gallery reports; test split, training overlap none" in card
    assert cells(card, "this encoder") == ["this encoder", "0.62", "0.6", "0.55", "0.506", "0.041", "0.513"]
    assert cells(card, "95 %") == ["95 %", "0.54 … 0.70", "–", "–", "–", "-0.02 … 0.10", "–"]
    assert cells(card, "normal abnormal")[-1] == "0.524"
    assert cells(card, "edema") == ["edema", "12", "9", "0.4", "0.2", "0.10 … 0.30"]
    record["evaluations"][0]["seen_subjects"] = 4
    assert "training overlap 4" in model_card(record)


def test_every_setting_and_start_of_the_training_is_there(record: dict[str, Any]) -> None:
    card = model_card(record)
    assert cells(card, "`loss.name`") == ["`loss.name`", "dhn-nce"]
    assert cells(card, "`loss.temperature`")[1] == "0.6"
    assert cells(card, "`corpus`")[1] == "openi:openi"
    assert cells(card, "text tower")[1] == "`package:minilm`"
    assert cells(card, "image tower")[1] == "`mobilenetv2.safetensors`"  # no folder of this machine


def test_nothing_is_raw_json_and_no_subject_is_named(record: dict[str, Any]) -> None:
    card = model_card(record)
    assert "```json" not in card
    assert not re.search(r'^\s*[{}"]', card, re.MULTILINE)
    for secret in (*record["subjects"]["hashes"], record["subjects"]["salt"], json.dumps(EPOCH)):
        assert secret not in card


def test_tables_have_as_many_cells_in_every_row(record: dict[str, Any]) -> None:
    for block in model_card(record).split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) <= 1


def test_the_card_says_when_plain_open_clip_cannot_read_the_encoder(
    record: dict[str, Any],
) -> None:
    assert "open_clip.create_model_and_transforms" in model_card(record)
    card = model_card({**record, "plain_open_clip": False})
    assert "Plain open_clip cannot read it." in card
    assert "create_model" not in card
