import subprocess
import sys
from pathlib import Path

import pytest

from vae_jax import cli
from vae_jax.config import command_line
from vae_jax.config.explain import beta_conventions
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def parse(*words):
    return parse_config([f"--config={ROOT / 'configs/digits.py'}", *words])


@pytest.fixture
def leave(monkeypatch, capsys):
    """Trains as the program does, in this process: (exit status, what it printed, what it complained of)."""
    monkeypatch.setattr(command_line, "use_compilation_cache", lambda: None)

    def leave(*words):
        with pytest.raises(SystemExit) as exit:
            command_line.run_program(cli.train, ["--config=digits", *words])
        return exit.value.code, *capsys.readouterr()

    return leave


def test_values_are_read_by_the_type_of_their_field():
    config = parse(
        "--config.variant.beta=4", "--config.train.steps", "77", "--config.net.hidden=(64, 32)", "--config.train.cosine"
    )
    assert (config.variant.beta, config.train.steps, config.net.hidden, config.train.cosine) == (
        4.0,
        77,
        (64, 32),
        True,
    )
    assert type(config.variant.beta) is float


def test_a_new_name_brings_its_own_fields_whatever_the_order():
    config = parse(
        "--config.likelihood.sigma=0.5", "--config.likelihood.name=gaussian", "--config.variant.name=autoencoder"
    )
    assert (config.likelihood.name, config.likelihood.sigma) == ("gaussian", 0.5)
    assert config.variant.to_dict() == {"name": "autoencoder", "noise": 0.0}
    with pytest.raises(UserError, match=r"config.variant.beta: 'beta' is unknown"):
        parse("--config.variant.name=autoencoder", "--config.variant.beta=4")


def test_a_config_takes_an_argument():
    config = parse_config([f"--config={ROOT / 'configs/digits.py'}:autoencoder"])
    assert config.variant.name == "autoencoder"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--config.variant.name=bta", "config.variant.name: 'bta' is unknown; known: ada.*mean 'beta'"),
        ("--config.data.name=mnits", "config.data.name: 'mnits' is unknown.*mean 'mnist'"),
        ("--config.net.name=mpl", "config.net.name: 'mpl' is unknown; known: conv, mlp.*mean 'mlp'"),
        ("--config.likelihood.name=bernouli", "config.likelihood.name: 'bernouli' is unknown.*mean 'bernoulli'"),
        ("--config.train.stesp=5", "config.train.stesp: 'stesp' is unknown.*mean 'steps'"),
        ("--config.train=5", "config.train: '5' is unknown"),
        ("--config.seed.x=5", "config.seed: 0 is a value and has no field 'x'"),
        ("--config.train.steps=abc", "config.train.steps: 'abc' is not allowed; give a whole number"),
        ("--config.train.steps=2.5", "config.train.steps: '2.5' is not allowed; give a whole number"),
        ("--config.train.cosine=maybe", "config.train.cosine: 'maybe' is not allowed; give true or false"),
        ("--config.train.batch_size=0", "config.train.batch_size: 0 is not allowed.* at least 1"),
        ("--config.train.batch_size=-3", "config.train.batch_size: -3 is not allowed"),
        ("--config.latent_dim=0", "config.latent_dim: 0 is not allowed"),
        ("--config.variant.beta=-1", r"config.variant.beta: -1.0 is not allowed; give a number of at least 0"),
        ("--config.variant.beta=nan", "config.variant.beta: nan is not allowed"),
        ("--config.variant.beta=inf", "config.variant.beta: inf is not allowed"),
        ("--config.train.steps=0", "config.train.steps: 0 is not allowed"),
        ("--config.train.ema=1", "config.train.ema: 1.0 is not allowed"),
        ("--config.seed=-1", "config.seed: -1 is not allowed"),
        ("--config.wandb.mode=on", "config.wandb.mode: 'on' is unknown; known: disabled, offline, online"),
        ("--config.data.binarize=dynamc", "config.data.binarize: 'dynamc' is unknown.*mean 'dynamic'"),
    ],
)
def test_a_bad_field_is_one_line_that_names_it(words, message):
    with pytest.raises(UserError, match=message) as caught:
        parse(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--confg.seed=5", "--confg.seed: 'confg.seed' is unknown"),
        ("--workdir", "--workdir: has no value"),
        ("--workdir=", "--workdir: has no value"),
        ("seed=5", "seed: 'seed' is unknown"),
    ],
)
def test_a_bad_flag_is_one_line_that_names_it(word, message):
    with pytest.raises(UserError, match=message) as caught:
        cli.train(["--config=digits", word])
    assert "\n" not in str(caught.value)


def test_a_config_file_with_a_misspelt_missing_or_wrong_field_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    body = (
        "from vae_jax.config import defaults\n"
        "def get_config():\n    config = defaults.get_config()\n    {}\n    return config\n"
    )
    for line, message in {
        "config.train.step = 5": "config.train.step: 'step' is unknown.*mean 'steps'",
        "config.variant = defaults.section('variant', 'beta', beta=-1)": "config.variant.beta: -1 is not allowed",
        "config.variant.betta = 5.0": "config.variant.betta: 'betta' is unknown.*mean 'beta'",
        "del config.train['clip']": "config.train.clip: missing; the default is 0.0",
        "config.train.unlock(); config.train = config.train.to_dict() | {'steps': 'x'}": "config.train.steps: 'x'",
    }.items():
        file.write_text(body.format(line))
        with pytest.raises(UserError, match=message):
            parse_config([f"--config={file}"])
    with pytest.raises(UserError, match=r"mine\.py"):
        parse_config([f"--config={tmp_path / 'min.py'}"])
    with pytest.raises(UserError, match=r"--config: 'nowhere/mine.py' is not a file"):
        parse_config(["--config=nowhere/mine.py"])
    file.write_text("def get_config():\n    return 1 +\n")
    with pytest.raises(UserError, match=r"mine.py:2: SyntaxError"):
        parse_config([f"--config={file}"])
    file.write_text("\n\ndef get_config():\n    raise KeyError('no')\n")
    with pytest.raises(UserError, match=r"mine.py:4: KeyError"):
        parse_config([f"--config={file}"])
    with pytest.raises(UserError, match="takes no argument, and 'beta' was given"):
        parse_config([f"--config={ROOT / 'configs/default.py'}:beta"])
    file.write_text("x = 1\n")
    with pytest.raises(UserError, match="has no get_config"):
        parse_config([f"--config={file}"])


def test_beta_reads_in_the_other_conventions():
    text = beta_conventions(parse("--config.variant.beta=4", "--config.latent_dim=10"), (8, 8, 1))
    assert "has beta 0.0625" in text  # 4 / 64
    assert text.endswith("it is 0.625")  # 4 * 10 / 64


BAD = {
    "config.variant.name": ["--config.variant.name=bta"],
    "config.train.batch_size: 5000 is more than the 1497 training images": ["--config.train.batch_size=5000"],
    "config.train.batch_size: 7 does not divide over 2 devices": ["--config.train.batch_size=7"],
    "config.data.path: '/nowhere' is not a folder": ["--config.data.name=idx", "--config.data.path=/nowhere"],
    "config.net.name: 'conv'": ["--config.net.name=conv"],
    "config.likelihood.sigma: -1.0": ["--config.likelihood.name=gaussian", "--config.likelihood.sigma=-1"],
    "config.net.activation: 'rleu' is unknown": ["--config.net.activation=rleu"],
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_leaves_with_status_2_one_line_and_nothing_written(tmp_path, message, leave):
    status, out, errors = leave(f"--workdir={tmp_path / 'run'}", "--config.parallel.devices=2", *BAD[message])
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_given_bad_input_says_one_line_and_leaves_with_status_2(tmp_path):
    """What JAX itself would print, or a home that is not there, adds nothing."""
    message = "config.train.batch_size: 7 does not divide over 2 devices"
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "HOME": "/nonexistent",
    }
    command = [sys.executable, "-m", "experiments.train", "--workdir", str(tmp_path / "run"), *BAD[message]]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_workdir_that_cannot_be_one_is_refused(tmp_path, leave):
    file = tmp_path / "file"
    file.write_text("mine")
    for workdir in (file, file / "inside"):
        status, _, errors = leave(f"--workdir={workdir}")
        assert status == 2
        assert "--workdir" in errors
        assert errors.count("\n") == 1
    assert file.read_text() == "mine"
