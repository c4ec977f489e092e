import re
import subprocess
import sys
from pathlib import Path

import pytest

from vae_jax import cli, model
from vae_jax.config import command_line
from vae_jax.config.explain import beta_conventions
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.phrases import printable

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
        ("--config.net.name=mpl", "config.net.name: 'mpl' is unknown; known: conv, grid, mlp.*mean 'mlp'"),
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
    "config.train.batch_size: 5000 is more than the 1347 training images": ["--config.train.batch_size=5000"],
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


@pytest.mark.full
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


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--config.train.steps=1e4"], "train.steps", 10_000),
        (["--config.train.steps=20_000"], "train.steps", 20_000),
        (["--config.wandb.tags=a,b"], "wandb.tags", ("a", "b")),
        (["--config.wandb.tags=('a', 'b')"], "wandb.tags", ("a", "b")),
        (["--config.wandb.tags=a"], "wandb.tags", ("a",)),
        (["--config.net.hidden=64,32"], "net.hidden", (64, 32)),
        (["--config.net.hidden=64"], "net.hidden", (64,)),
        (["--config.sweep.halving=()"], "sweep.halving", ()),
        (["--config.sweep.halving=3e1,1e2"], "sweep.halving", (30, 100)),
        (["--config.net.hidden=1e1,8"], "net.hidden", (10, 8)),
        (["--config.net.hidden=(1e1, 8)"], "net.hidden", (10, 8)),
        (["--config.wandb.tags=2024,baseline"], "wandb.tags", ("2024", "baseline")),
        (["--config.wandb.tags=v1.0,3.50"], "wandb.tags", ("v1.0", "3.50")),
        (["--config.wandb.tags=1e2,3.50"], "wandb.tags", ("1e2", "3.50")),
        (["--config.wandb.tags=2024"], "wandb.tags", ("2024",)),
        (["--config.wandb.tags='a,b'"], "wandb.tags", ("a,b",)),
    ],
)
def test_values_are_read_as_people_type_them(words, field, value):
    section, _, leaf = field.partition(".")
    assert parse(*words)[section][leaf] == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.steps=1.5", "give a whole number"),
        ("train.steps=1e400", "give a whole number"),
        ("train.steps=nan", "give a whole number"),
        ("net.hidden=(64", "give a tuple"),
        ("net.hidden=a,b", "give a tuple of whole numbers, as in"),
        ("train.learning_rate=1e39", "a number that float32 holds"),
        ("latent_dim=1e30", "a whole number below 2^32"),
        ("wandb.project=a/b", "at most 128 characters without"),
        ("wandb.tags=" + "x" * 80, "of 1 to 64 characters each"),
        ("wandb.name=" + "x" * 200, "at most 128 characters"),
        ("wandb.entity=a b", "a user or a team"),
        ("wandb.project=  ", "not all blank"),
        ("wandb.tags=('  ',)", "of 1 to 64 characters each"),
        ("wandb.tags=('a\\nb',)", "words without control characters"),
        ("wandb.tags=(2024, 'a')", "words with commas between"),
        ("net.hidden=1.5,8", "give a tuple of whole numbers, as in"),
        ("wandb.name=a\nb", "without control characters"),
        ("wandb.group=a\x1b[2J", "without control characters"),
    ],
)
def test_what_would_stop_a_run_later_is_refused_in_a_line(word, message):
    with pytest.raises(UserError) as refused:
        model.build(parse(f"--config.{word}"), (8, 8, 1))
    assert message in str(refused.value)
    assert printable(str(refused.value)) == str(refused.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def get_config():\n    pass\n", r"get_config\(\) of '.*' gives NoneType; return a ConfigDict"),
        ("import sys\nsys.exit(0)\n", r"mine.py:2: SystemExit: 0"),
        ("def get_config():\n    raise SystemExit\n", "SystemExit"),
        ("def get_config():\n    return {'variant': 5}\n", "config.data: missing"),
        ("def get_config():\n    return 1 if True else open('x')\n", "gives int; return a ConfigDict"),
        ("open('nowhere')\ndef get_config():\n    pass\n", "nowhere: cannot be read"),
    ],
)
def test_a_config_file_that_gives_none_is_said_in_a_line(tmp_path, body, message):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(UserError, match=message):
        parse_config([f"--config={tmp_path / 'mine.py'}"])


@pytest.mark.parametrize("section", [5, None, {"name": 3}, {}])
def test_a_section_that_is_none_is_said_in_a_line(tmp_path, section):
    (tmp_path / "mine.py").write_text(
        "from vae_jax.config import defaults\ndef get_config():\n    config = defaults.get_config()\n"
        f"    del config.variant\n    config.variant = {section!r}\n    return config\n"
    )
    with pytest.raises(UserError, match=r"config\.variant: .* is not allowed; give a section with a name"):
        parse_config([f"--config={tmp_path / 'mine.py'}"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", "seed: 0", "give a .py file"),
        ("config.json", "{}", "is not a run's config.json"),
        ("config.json", "[" * 100_000, "is not a run's config.json"),
        ("config.json", '{"config": {"a":' + '{"a":' * 700 + "0" + "}" * 702, "missing|nested too deep"),
        ("metrics.jsonl", "{}", "give a .py file"),
    ],
)
def test_a_config_of_another_kind_is_said_in_a_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        parse_config([f"--config={tmp_path / name}"])


def test_a_runs_config_json_takes_no_argument(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json' takes no argument, and 'foo' was given"):
        parse_config([f"--config={tmp_path / 'config.json'}:foo"])


def test_a_network_beyond_the_memory_is_refused_before_anything_is_written(tmp_path, leave):
    status, _, errors = leave(f"--workdir={tmp_path / 'run'}", "--config.latent_dim=1e8")
    assert status == 2
    message = r"error: this config makes [\d,]+ parameters, .* GiB to train, .*; make config.latent_dim, .* smaller\n"
    assert re.fullmatch(message, errors)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (FileNotFoundError(2, "No such file or directory", "runs/x"), 2, "error: runs/x: no such file or directory\n"),
        (OSError(28, "No space left on device", "a\nb"), 2, "error: a\\nb: no space left on device; free some"),
        (UserError("two\nlines \x1b[31m"), 2, "error: two\nlines \\x1b[31m\n"),
        (UserError(f"seed: {'9' * 900} x; give one"), 2, f"error: seed: {'9' * 900} x; give one\n"),
        (UserError(f"seed: {'9' * 5000} x; give one"), 2, f"error: seed: {'9' * 658} ... {'9' * 319} x; give one\n"),
        (MemoryError(), 2, "error: this machine's memory is full"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"), 2, "error: the device's memory is full (RESOURCE_EXHAUSTED"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_machine_runs_out_of_is_one_line(capsys, error, status, message):
    def fail(words):
        raise error

    with pytest.raises(SystemExit) as left:
        command_line.run_program(fail, [])
    assert left.value.code == status
    assert capsys.readouterr().err.startswith(message)


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command_line.run_program(lambda words: 1 // 0, [])


@pytest.mark.parametrize("word", ["--workdir=a\nb", "--workdir=", "--workdir=\x1b[2J", "--from=a\nb"])
def test_a_path_that_a_terminal_would_act_on_is_refused(word, leave):
    status, _, errors = leave(word)
    assert status == 2
    assert errors.count("\n") == 1
    assert errors.startswith(f"error: {word.partition('=')[0]}: ")
