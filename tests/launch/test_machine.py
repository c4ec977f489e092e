"""What a machine has, and how it is shared out."""

import pytest

from vae_jax.errors import UserError
from vae_jax.launch import machine


def test_gpus_are_shared_out_and_a_lone_program_has_all(tmp_path, monkeypatch):
    for i in range(4):
        (tmp_path / f"nvidia{i}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(machine, "find_spec", lambda name: name == "jax_cuda12_plugin")
    assert machine.visible_gpus({}, tmp_path) == ["0", "1", "2", "3"]
    assert machine.visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3"}, tmp_path) == ["2", "3"]
    assert machine.visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert machine.visible_gpus({"JAX_PLATFORMS": "cpu"}, tmp_path) == []
    assert machine.visible_gpus({}, tmp_path / "none") == []
    monkeypatch.setattr(machine, "visible_gpus", lambda environment: ["0", "1", "2", "3"])

    def shared(groups, processes):
        shares = machine.share_devices(groups, processes, {})
        assert sum(share.devices for share in shares) == 4
        return [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares]

    assert shared(1, 0) == ["0,1,2,3"]
    assert shared(2, 0) == ["0,1", "2,3"]
    assert shared(9, 0) == ["0", "1", "2", "3"]
    assert shared(9, 3) == ["0", "1", "2,3"]
    with pytest.raises(UserError, match="--processes: 5 is not allowed; give at most 4, the GPUs here"):
        machine.share_devices(9, 5, {})


def test_a_tpu_belongs_to_one_process(tmp_path, monkeypatch):
    (tmp_path / "accel0").touch()
    monkeypatch.setattr(machine, "find_spec", lambda name: name == "libtpu")
    assert machine.has_tpu({}, tmp_path)
    assert not machine.has_tpu({"JAX_PLATFORMS": "cpu"}, tmp_path)
    assert not machine.has_tpu({}, tmp_path / "none")
    monkeypatch.setattr(machine, "has_tpu", lambda environment: True)
    assert machine.share_devices(9, 1, {}) == [machine.DeviceShare("tpu", {}, (), None)]
    with pytest.raises(UserError, match="--processes: 2 is not allowed; give at most 1, the TPU"):
        machine.share_devices(9, 2, {})


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: [0, 1, 4, 5, 6])
    monkeypatch.setattr(machine, "visible_gpus", lambda environment: [])
    assert [share.cores for share in machine.share_devices(3, 2, {})] == [(0, 1), (4, 5, 6)]
    (share,) = machine.share_devices(3, 0, {"XLA_FLAGS": "--a"})
    flags = {"XLA_FLAGS": "--a --xla_force_host_platform_device_count=5"}
    assert share == machine.DeviceShare("5 cores", flags, (), 5)
    assert len(machine.share_devices(1, 4, {})) == 1
    with pytest.raises(UserError, match="--processes: 6 is not allowed; give at most 5, the cores here"):
        machine.share_devices(9, 6, {})
