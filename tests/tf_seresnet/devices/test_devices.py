from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from shared import recipes  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.system import processor  # noqa: E402
from tf_seresnet import devices  # noqa: E402
from tf_seresnet.devices import probe, stock_tensorflow  # noqa: E402
from tf_seresnet.devices.npu import environment as npu_environment  # noqa: E402
from tf_seresnet.devices.npu import session_options as npu_options  # noqa: E402
from tf_seresnet.devices.npu.device import DYNAMIC_LOSS_SCALE  # noqa: E402
from tf_seresnet.devices.probe import rewritten  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = ROOT / "tests" / "fakes" / "tf115_npu_bridge"
STAND_IN_26 = ROOT / "tests" / "fakes" / "tf26_npu_device"
V1 = tf.compat.v1
RANKS = ("RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE", "ASCEND_DEVICE_ID", "JOB_ID", "CM_RANK", *npu_environment.CHIEF)
VERSION = tuple(int(part) for part in re.findall(r"\d+", tf.__version__)[:2])


# -- a small training, the same on every device -------------------------------------------------------------


def train(device, steps=4, poison=()):
    """Weights after each step, number of counted steps and all variables, of y = w x fitted to 3 x.

    `poison` are the steps whose loss is made infinite.
    """
    with tf.Graph().as_default():
        x = V1.placeholder(tf.float32, [8])
        factor = V1.placeholder(tf.float32, [])
        weight = V1.get_variable("w", initializer=1.0)
        count = V1.get_variable("count", initializer=0, trainable=False)
        loss = tf.reduce_mean(tf.square(weight * x - 3.0 * x)) * factor
        optimizer = device.wrap_optimizer(V1.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True))
        step = optimizer.apply_gradients(optimizer.compute_gradients(loss), global_step=count)
        with V1.Session(config=device.session_config()) as session:
            session.run(V1.global_variables_initializer())
            weights = []
            for number in range(steps):
                feed = {x: np.linspace(-1, 1, 8), factor: np.inf if number in poison else 1.0}
                session.run(step, feed)
                weights.append(float(session.run(weight)))
            others = {v.op.name: session.run(v) for v in V1.global_variables()}
    return weights, int(others["count"]), others


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Restores the environment variables that devices set."""
    for name in ("TF_XLA_FLAGS", "TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC", *RANKS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs in TensorFlow's list, without hardware."""
    monkeypatch.setattr(probe, "visible_gpus", lambda: ["first", "second"])
    monkeypatch.setattr(probe, "gpu_name", lambda physical, index: f"GPU the {physical}")
    monkeypatch.setattr(probe, "rewritten", lambda config: ({"float16"}, {"_XlaRun"}))


@pytest.fixture(scope="module", autouse=True)
def no_stand_in_afterwards():
    """Removes the adapter for other tests of this process: `auto` would use it."""
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("npu_bridge", "npu_device")]:
        del sys.modules[name]


@pytest.fixture
def adapter(monkeypatch):
    """The stand-in for npu_bridge, the adapter for TensorFlow 1.15."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setattr(probe, "tensorflow_version", lambda: "1.15.5")
    import npu_bridge.npu_init

    return npu_bridge.npu_init


@pytest.fixture
def no_adapter(monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "fakes" not in p])
    for name in [name for name in sys.modules if name.split(".")[0] in ("npu_bridge", "npu_device")]:
        monkeypatch.delitem(sys.modules, name)


# -- spelling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("auto", ("auto", None)),
        ("cpu", ("cpu", None)),
        ("gpu", ("gpu", None)),
        ("gpu:0", ("gpu", 0)),
        ("cuda", ("gpu", None)),
        ("CUDA:1", ("gpu", 1)),
        ("npu", ("npu", None)),
        (" npu:3 ", ("npu", 3)),
    ],
)
def test_spelling(text, meaning):
    assert devices.parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("gpuu", "did you mean 'gpu'?"),
        ("cpu:1", "did you mean 'cpu'?"),
        ("atuo", "did you mean 'auto'?"),
        ("a\nut", "did you mean 'auto'?"),
        ("gpu:-1", "choose one of auto, cpu, gpu"),
        ("tpu", "choose one of auto"),
    ],
)
def test_unknown_spelling_names_the_nearest_if_there_is_one(text, near):
    with pytest.raises(UsageError, match=re.escape(near)) as refused:
        devices.parse(text)
    assert "\n" not in str(refused.value)


# -- CPU ----------------------------------------------------------------------------------------------------


def test_cpu_trains_and_hides_gpus():
    device = devices.open_device("cpu")
    config = device.session_config()
    assert config.device_count["GPU"] == 0
    assert list(config.graph_options.rewrite_options.custom_optimizers) == []
    assert device.describe() == {"kind": "cpu", "name": device.name, "count": 1}
    assert device.name
    assert (device.static_shapes, device.times_data_wait, device.notes) == (False, True, [])
    optimizer = V1.train.GradientDescentOptimizer(0.1)
    assert device.wrap_optimizer(optimizer) is optimizer
    weights, count, _ = train(device)
    assert count == 4
    assert 1 < weights[0] < weights[3] < 3


def test_configurations_are_fresh():
    device = devices.open_device("cpu")
    device.session_config().device_count["GPU"] = 7
    assert device.session_config().device_count["GPU"] == 0


def test_in_float32_on_the_cpu_passes_without_gain_are_left_out_and_change_nothing(monkeypatch):
    rewrite = devices.open_device("cpu").session_config().graph_options.rewrite_options
    assert (rewrite.constant_folding, rewrite.layout_optimizer) == (rewrite.OFF, rewrite.OFF)
    assert rewrite.meta_optimizer_iterations == rewrite.ONE
    assert rewrite.remapping == rewrite.DEFAULT  # fuses, which evaluations gain by
    weights = train(devices.open_device("cpu"))[0]
    monkeypatch.setattr(stock_tensorflow, "_leave_out_passes", lambda rewrite_options: None)
    device = devices.open_device("cpu")
    assert device.session_config().graph_options.rewrite_options.constant_folding == rewrite.DEFAULT
    assert train(device)[0] == weights


def opened_or_refused(precision):
    try:
        return devices.open_device("cpu", precision=precision)
    except UsageError as error:
        message = str(error)
    assert "use --precision O0" in message
    return None


@pytest.mark.parametrize(("precision", "reduced"), [("O1", "float16"), ("bf16", "bfloat16")])
def test_reduced_precision_on_the_cpu_has_effect_or_is_refused(precision, reduced, monkeypatch):
    monkeypatch.setattr(processor, "cpuinfo", lambda: "flags\t\t: avx512f avx512_vnni")
    device = opened_or_refused(precision)
    if device is None:
        assert VERSION < (2, 12) or precision == "bf16"  # which depends on the processor
        return
    assert reduced in rewritten(device.session_config())[0]
    assert reduced not in rewritten(devices.open_device("cpu").session_config())[0]
    assert device.session_config().graph_options.rewrite_options.constant_folding == 0  # its rewrite keeps all passes
    assert "slower" in device.notes[0]
    assert train(device)[1] == 4


def test_float16_is_not_evaluated_where_tensorflow_would_end_the_process(monkeypatch):
    if VERSION < (2, 12):
        pytest.skip("no float16 rewrite for the CPU before TensorFlow 2.10")
    monkeypatch.setattr(processor, "cpuinfo", lambda: "flags\t\t: fpu avx512f avx512_bf16\n")
    reason = devices.open_device("cpu", precision="O1").no_inference
    assert reason.endswith(", which has no avx512_fp16; use --precision bf16 or O0")
    device = opened_or_refused("bf16")  # which depends on the processor that is here in truth
    assert device is None or not device.no_inference
    monkeypatch.setattr(processor, "cpuinfo", lambda: "flags\t\t: fpu avx512f avx512_fp16\n")
    assert not devices.open_device("cpu", precision="O1").no_inference


@pytest.mark.parametrize(("flags", "has"), [("avx512f avx512_bf16 sse", True), ("amx_bf16", True), ("avx512f", False)])
def test_bf16_is_offered_where_the_cpu_multiplies_it(flags, has, monkeypatch):
    monkeypatch.setattr(processor, "cpuinfo", lambda: f"model name\t: A CPU\nflags\t\t: fpu {flags}\nbugs\t\t:\n")
    has = has and VERSION >= (2, 9)
    assert (devices.open_device("cpu").bf16_speedup is not None) == has
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert devices.open_device("cpu").bf16_speedup is None
    assert processor.name() == "A CPU"


def test_bf16_is_refused_where_onednn_has_none(monkeypatch):
    monkeypatch.setattr(processor, "cpuinfo", lambda: "flags\t\t: fpu avx avx2\n")
    assert opened_or_refused("bf16") is None


def test_a_rewrite_without_effect_is_refused(monkeypatch):
    monkeypatch.setattr(stock_tensorflow.CpuDevice, "rewrites", {"O1": ("remapping",)})
    with pytest.raises(UsageError, match="no effect on"):
        devices.open_device("cpu", precision="O1")


def test_precision_leaves_no_trace_in_other_sessions():
    if VERSION < (2, 12):
        pytest.skip("no float16 rewrite for the CPU before TensorFlow 2.10")
    train(devices.open_device("cpu", precision="O1"), steps=1)
    assert "float16" not in rewritten(V1.ConfigProto())[0]


@pytest.mark.parametrize(
    ("precision", "says"),
    [("O2", "use --precision O1"), ("O3", "unknown"), ("fp16", "did you mean 'bf16'"), ("fp32", "choose one of O0")],
)
def test_unknown_precision(precision, says):
    with pytest.raises(UsageError, match=says):
        devices.open_device("cpu", precision=precision)


def test_npu_options_elsewhere_are_refused():
    with pytest.raises(UsageError, match="--device npu"):
        devices.open_device("cpu", npu_options=["graph_run_mode=1"])


@pytest.mark.parametrize("scale", ["dynamic", "1024", "1"])
def test_loss_scale_does_not_change_float32_training(scale):
    device = devices.open_device("cpu", loss_scale=scale)
    np.testing.assert_allclose(train(device)[0], train(devices.open_device("cpu"))[0], rtol=1e-6)


def test_dynamic_loss_scale_skips_an_overflow_and_halves():
    weights, count, variables = train(devices.open_device("cpu", loss_scale="dynamic"), steps=3, poison=[1])
    assert weights[1] == weights[0] < weights[2]
    assert count == 2
    assert variables["current_loss_scale"] == 2.0**14


@pytest.mark.parametrize("scale", ["0.5", "0", "-4", "inf", "nan", "much", ""])
def test_invalid_loss_scale(scale):
    with pytest.raises(UsageError, match="--loss-scale dynamic"):
        devices.open_device("cpu", loss_scale=scale)


def test_determinism_is_switched_on_when_asked(monkeypatch):
    called = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: called.append(1), raising=False)
    assert not devices.open_device("cpu").settings()["deterministic"]
    assert called == []
    assert devices.open_device("cpu", deterministic=True).settings()["deterministic"]
    assert called == [1]


def test_determinism_of_old_tensorflow_is_an_environment_variable(monkeypatch):
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", None, raising=False)
    devices.open_device("cpu", deterministic=True)
    assert os.environ["TF_DETERMINISTIC_OPS"] == os.environ["TF_CUDNN_DETERMINISTIC"] == "1"


@pytest.mark.slow
def test_a_deterministic_run_trains(tmp_path, sample_folder):
    """In its own process, which the switch affects. TensorFlow refuses operators without a deterministic kernel."""
    command = [sys.executable, "tf_seresnet/main.py", "--deterministic", "--device", "cpu", "--max-steps", "1"]
    command += ["--recipe", "sample", "--variant", "paper", "--depth", "8", "--batch-size", "8"]
    command += ["--data-path", str(sample_folder), "--output-dir", str(tmp_path / "run")]
    output = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert output.returncode == 0, output.stderr.decode()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["device"]["deterministic"]


def test_xla_asks_tensorflow_for_it_and_reads_the_outcome(monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--other")
    devices.load_tensorflow("cpu", xla=True)
    monkeypatch.setattr(probe, "rewritten", lambda config: (set(), {"_XlaRun"}))
    device = devices.open_device("cpu", xla=True)
    level = device.session_config().graph_options.optimizer_options.global_jit_level
    assert level == V1.OptimizerOptions.ON_2
    assert os.environ["TF_XLA_FLAGS"].split() == ["--other", "--tf_xla_cpu_global_jit"]
    monkeypatch.setattr(probe, "rewritten", lambda config: (set(), set()))
    with pytest.raises(UsageError, match="TF_XLA_FLAGS="):
        devices.open_device("cpu", xla=True)


def test_settings_are_json():
    settings = devices.open_device("cpu", loss_scale="8").settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["loss_scale"] == 8.0


# -- GPU ----------------------------------------------------------------------------------------------------


def test_missing_gpu(monkeypatch):
    monkeypatch.setattr(probe, "visible_gpus", list)
    monkeypatch.setattr(probe, "driver_gpus", list)
    with pytest.raises(UsageError, match="nvidia-smi lists no GPU.*use --device cpu"):
        devices.open_device("gpu")
    monkeypatch.setattr(probe, "driver_gpus", lambda: ["NVIDIA H200"])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    with pytest.raises(UsageError, match="NVIDIA H200.*built for the CPU alone.*and-cuda"):
        devices.open_device("cuda:0")
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
    with pytest.raises(UsageError, match="NVIDIA H200.*cannot use them"):
        devices.open_device("gpu:0")


@pytest.mark.usefixtures("gpus")
def test_gpu_index_too_high():
    with pytest.raises(UsageError, match="no gpu:2; TensorFlow sees gpu:0, gpu:1"):
        devices.open_device("gpu:2")


@pytest.mark.usefixtures("gpus")
def test_gpu_session():
    device = devices.open_device("cuda:1", precision="O1", xla=True)
    config = device.session_config()
    assert config.gpu_options.allow_growth
    assert config.gpu_options.visible_device_list == "1"
    assert config.graph_options.rewrite_options.auto_mixed_precision == 1  # RewriterConfig.ON
    assert config.graph_options.optimizer_options.global_jit_level == V1.OptimizerOptions.ON_1
    assert device.describe() == {"kind": "gpu", "name": "GPU the second", "count": 1}
    assert (device.index, device.loss_scale) == (1, "dynamic")
    with tf.Graph().as_default():
        optimizer = V1.train.GradientDescentOptimizer(0.1)
        assert device.wrap_optimizer(optimizer) is not optimizer


@pytest.mark.usefixtures("gpus")
def test_gpu_in_float32_and_bfloat16():
    device = devices.open_device("gpu")
    assert device.session_config().graph_options.rewrite_options.auto_mixed_precision == 0
    assert device.loss_scale is None
    with pytest.raises(UsageError, match="bf16.*no effect"):
        devices.open_device("gpu", precision="bf16")


def test_auto_notes_the_accelerators_that_it_cannot_use(monkeypatch):
    monkeypatch.setattr(probe, "visible_gpus", list)
    monkeypatch.setattr(probe, "driver_gpus", list)
    monkeypatch.setattr(probe, "npu_count", int)
    assert devices.open_device("auto").notes == []
    monkeypatch.setattr(probe, "driver_gpus", lambda: ["NVIDIA H200"])
    monkeypatch.setattr(probe, "npu_count", lambda: 8)
    card, npu = devices.open_device("auto").notes
    assert card.startswith("nvidia-smi lists NVIDIA H200, and ")
    assert card.endswith("; this runs on the CPU")
    assert npu.startswith("an Ascend NPU is here, but {} has no adapter".format(sys.executable))
    assert devices.open_device("cpu").notes == []  # as asked for


def test_automatic_choice(monkeypatch, adapter, request):
    assert devices.open_device("auto").kind == "npu"
    monkeypatch.setattr(probe, "tensorflow_version", lambda: "2.21.0")
    assert devices.open_device("auto").kind == "cpu"
    monkeypatch.setattr(probe, "tensorflow_version", lambda: "1.15.5")
    request.getfixturevalue("gpus")
    assert devices.open_device("auto").kind == "gpu"


# -- NPU ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_adapter")
@pytest.mark.parametrize("version", ["1.15.5", "2.6.5", "2.21.0"])
def test_a_missing_adapter_is_reported_before_any_other_error(monkeypatch, version):
    monkeypatch.setattr(probe, "tensorflow_version", lambda: version)
    with pytest.raises(UsageError, match="not importable in .*install npu_bridge.*or use --device cpu"):
        devices.open_device("npu:0", precision="O2", npu_options=["nonsense"])


@pytest.mark.parametrize("version", ["1.14.0", "2.6.5", "2.12.1", "2.21.0"])
def test_adapter_of_another_tensorflow(monkeypatch, adapter, version):
    monkeypatch.setattr(probe, "tensorflow_version", lambda: version)
    with pytest.raises(UsageError, match=f"npu_bridge does not work with TensorFlow {version}"):
        devices.open_device("npu")


@pytest.mark.usefixtures("no_adapter")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise ImportError('libge_runner.so: cannot open\\nshared')", "libge_runner.so: cannot open shared"),
        ("raise OSError('no CANN')", "OSError: no CANN"),
        ("npu_tf_optimizer = None", "lacks NPULossScaleOptimizer"),
    ],
)
def test_adapter_that_fails_at_import(monkeypatch, tmp_path, content, says):
    package = tmp_path / "npu_bridge"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "npu_init.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "tensorflow_version", lambda: "1.15.5")
    try:
        with pytest.raises(UsageError, match=says) as refused:
            devices.open_device("npu")
        assert "\n" not in str(refused.value)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "npu_bridge"]:
            del sys.modules[name]


def test_npu_session_as_documented(adapter):
    device = devices.open_device("npu:3", precision="O1", deterministic=False)
    values = adapter.check_session_config(device.session_config())
    assert values == {
        "use_off_line": True,
        "graph_run_mode": 1,
        "precision_mode": b"allow_mix_precision",
        "session_device_id": 3,
    }
    assert (device.kind, device.name, device.count, device.index) == ("npu", "Ascend NPU", 1, 3)
    assert (device.static_shapes, device.times_data_wait) == (True, False)
    settings = device.settings()
    assert settings["adapter"] == "npu_bridge"
    assert settings["npu_options"]["precision_mode"] == "allow_mix_precision"
    assert settings["dynamic_loss_scale"]["init_loss_scale"] == 2**32


@pytest.mark.parametrize(("precision", "scale"), [("O0", None), ("O1", "dynamic"), ("bf16", None)])
def test_npu_precision_and_loss_scale(adapter, precision, scale):
    device = devices.open_device("npu", precision=precision)
    adapter.check_session_config(device.session_config())
    assert device.loss_scale == scale


def test_npu_index_is_the_adapters_if_none_is_given(monkeypatch, adapter):
    monkeypatch.setenv("ASCEND_DEVICE_ID", "5")
    device = devices.open_device("npu")
    assert device.index == 5
    assert "session_device_id" not in adapter.check_session_config(device.session_config())


@pytest.mark.usefixtures("adapter")
@pytest.mark.parametrize("number", ["", "x", "-1", "0,1"])
def test_an_invalid_npu_index_is_refused(monkeypatch, number):
    monkeypatch.setenv("ASCEND_DEVICE_ID", number)
    with pytest.raises(UsageError, match="ASCEND_DEVICE_ID is '{}', not a device index; ".format(number)):
        devices.open_device("npu")


def test_npu_options_reach_the_session(adapter):
    options = ["dump_path=/d", "enable_dump=true", "hccl_timeout=60", "dynamic_input=1"]
    device = devices.open_device("npu", precision="O1", npu_options=options)
    values = adapter.check_session_config(device.session_config())
    assert (values["dump_path"], values["enable_dump"], values["hccl_timeout"]) == (b"/d", True, 60)
    assert "deprecated" in device.notes[0]


def test_every_key_is_one_of_the_adapters(adapter):
    for name, key in npu_options.KEYS.items():
        value = key.values[0] if key.values else {"b": "1", "i": "1", "s": "x"}[key.field]
        config = devices.open_device("npu").session_config()
        parameters = config.graph_options.rewrite_options.custom_optimizers[0].parameter_map
        parameters.clear()
        npu_options.write(npu_options.parse([f"{name}={value}"]), parameters)
        assert parameters[name].WhichOneof("value") == adapter._FIELD_OF[name]
    assert set(npu_options.KEYS) == set(adapter._FIELD_OF)


def test_npu_has_no_xla(adapter):
    with pytest.raises(UsageError, match="--xla has no effect on an NPU.*leave it out"):
        devices.open_device("npu", xla=True)


@pytest.mark.parametrize("scale", [None, "dynamic", "128"])
def test_npu_path_trains_like_the_cpu(adapter, scale):
    weights, count, variables = train(devices.open_device("npu", precision="O1", loss_scale=scale))
    np.testing.assert_allclose(weights, train(devices.open_device("cpu"))[0], rtol=1e-6)
    assert count == 4
    assert variables.get("loss_scale", 0) == (0 if scale == "128" else 2.0**32)
    assert variables.get("good_steps", 4) == 4


def test_npu_skips_overflows_and_halves_after_two(adapter):
    weights, count, variables = train(devices.open_device("npu", precision="O1"), steps=5, poison=[1, 3])
    assert weights[0] == weights[1] < weights[2] == weights[3] < weights[4]
    assert count == 3
    assert (variables["loss_scale"], variables["good_steps"], variables["bad_steps"]) == (2.0**31, 1, 0)


def test_stand_in_refuses_what_the_adapter_would(adapter):
    def filled(fill):
        config = devices.open_device("npu", precision="O1").session_config()
        fill(config.graph_options.rewrite_options)
        return config

    def parameters(rewrite):
        return rewrite.custom_optimizers[0].parameter_map

    wrong = {
        "remapping is not OFF": lambda r: setattr(r, "remapping", 1),
        "memory_optimization is not OFF": lambda r: setattr(r, "memory_optimization", 0),
        "unknown key typo": lambda r: parameters(r)["typo"],
        "use_off_line is in field i": lambda r: setattr(parameters(r)["use_off_line"], "i", 1),
        "precision_mode is b'fast'": lambda r: setattr(parameters(r)["precision_mode"], "s", b"fast"),
        "dump without dump_path": lambda r: setattr(parameters(r)["enable_dump"], "b", True),
        "0 custom optimizers": lambda r: setattr(r.custom_optimizers[0], "name", "NPUOptimizer"),
    }
    for says, fill in wrong.items():
        with pytest.raises(ValueError, match=says):
            adapter.check_session_config(filled(fill))
        with pytest.raises(ValueError, match=says), tf.Graph().as_default():
            V1.Session(config=filled(fill))


@pytest.mark.skipif(VERSION != (1, 15), reason="tf.contrib.mixed_precision is TensorFlow 1.15's")
def test_stand_in_moves_the_scale_as_contrib_does(adapter):
    from tensorflow.contrib import mixed_precision

    settings = dict(DYNAMIC_LOSS_SCALE, init_loss_scale=64, incr_every_n_steps=3)
    with tf.Graph().as_default(), V1.Session() as session:
        finite = V1.placeholder(tf.bool, [])
        managers = [adapter.ExponentialUpdateLossScaleManager(**settings)]
        managers.append(mixed_precision.ExponentialUpdateLossScaleManager(**settings))
        updates = [manager.update_loss_scale(finite) for manager in managers]
        session.run(V1.global_variables_initializer())
        scales = []
        for good in np.random.RandomState(0).rand(200) < 0.7:
            session.run(updates, {finite: good})
            scales.append(session.run([manager.get_loss_scale() for manager in managers]))
    ours, theirs = zip(*scales)
    assert ours == theirs
    assert len(set(ours)) > 4


@pytest.mark.slow
@pytest.mark.skipif(VERSION != (2, 6), reason="npu_device is TensorFlow 2.6's")
def test_npu_device_of_tensorflow_26_trains(tmp_path):
    """In its own process: the compatibility mode cannot be left."""
    code = (
        "import sys; sys.path.insert(0, 'tests/tf_seresnet/devices'); import test_devices as t\n"
        "device = t.devices.open_device('npu:1', precision='O1')\n"
        "weights, count, variables = t.train(device)\n"
        "assert device.settings()['adapter'] != 'npu_bridge' and not t.tf.executing_eagerly()\n"
        "assert count == 4 and variables['loss_scale'] == 2.0**32, variables\n"
        "print(weights)"
    )
    record = tmp_path / "record.jsonl"
    path = f"{ROOT}{os.pathsep}{STAND_IN_26}"
    environment = dict(os.environ, PYTHONPATH=path, NPU_STAND_IN_RECORD=str(record))
    command = [sys.executable, "-c", code]
    output = subprocess.run(
        command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300
    )
    assert output.returncode == 0, output.stderr.decode()
    printed = [float(word) for word in re.findall(r"[\d.]+", output.stdout.decode())]
    np.testing.assert_allclose(printed, train(devices.open_device("cpu"))[0], rtol=1e-6)
    lines = record.read_text().splitlines()
    assert any('"session_device_id": 1' in line for line in lines)
    assert any("ExponentialUpdateLossScaleManager" in line for line in lines)


# -- only devices/ names a device -----------------------------------------------------------------------------

# The only folder of this half whose code may name a device. Docstrings, comments and the documented names of recipes
# may do so everywhere.
MAY_NAME_DEVICES = ROOT / "tf_seresnet" / "devices"
RECIPE_NAME = re.compile("|".join(recipes.names()))
DEVICE_WORD = re.compile(r"(?<![a-z])(npu|cuda|gpu|ascend|davinci)(?![a-z])", re.IGNORECASE)


def device_words(source):
    """Names and strings in the code that contain a device; docstrings are left out."""
    words, previous = [], tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        starts_statement = previous in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
        docstring = token.type == tokenize.STRING and starts_statement
        if token.type in (tokenize.COMMENT, tokenize.NL):
            continue
        if not docstring and DEVICE_WORD.search(RECIPE_NAME.sub("", token.string)):
            words.append(f"{token.start[0]}: {token.string}")
        previous = token.type
    return words


def test_only_the_device_files_name_a_device():
    files = sorted((ROOT / "tf_seresnet").rglob("*.py"))
    named = {path: device_words(path.read_text(encoding="utf-8")) for path in files}
    start_files = {"run_npu.py", "modelart_senet.py"}  # the old ports' names of a command with --device npu
    others = [path for path in files if MAY_NAME_DEVICES not in path.parents and path.name not in start_files]
    offenders = {path.name: named[path] for path in others if named[path]}
    assert offenders == {}
    assert named[MAY_NAME_DEVICES / "__init__.py"]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""For the NPU."""\nimport npu_bridge\n', 1),
        ("if 'npu' in name: pass\n", 1),
        ("def f():\n    '''the GPU'''\n    return input_gpu\n", 1),
        ("x = inputs  # cuda\n", 0),
        ("device = '/gpu:0'\n", 1),
        ("recipe = 'se_resnet110_gpu'\n", 0),
    ],
)
def test_the_search_finds_devices(source, count):
    assert len(device_words(source)) == count


@pytest.mark.parametrize(("device", "hint"), [("npu", "npu_bridge"), ("auto", "run_gpu.sh")])
def test_no_tensorflow_is_one_line_that_fits_the_device(monkeypatch, device, hint):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # makes the import fail
    with pytest.raises(UsageError, match="TensorFlow does not load in .*; .*" + hint):
        devices.load_tensorflow(device, xla=False)


@pytest.mark.parametrize(
    ("enabled", "capability", "override", "expected"),
    [(True, (8, 0), None, True), (True, (7, 0), None, False), (False, (9, 0), None, False), (True, (9, 0), "0", False)],
)
def test_where_a_gpu_multiplies_in_tf32(enabled, capability, override, expected, monkeypatch):
    experimental = tf.config.experimental
    monkeypatch.setattr(probe, "visible_gpus", lambda: ["a card"])
    monkeypatch.setattr(experimental, "tensor_float_32_execution_enabled", lambda: enabled, raising=False)
    details = {"compute_capability": capability}
    monkeypatch.setattr(experimental, "get_device_details", lambda card: details, raising=False)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert probe.multiplies_in_tf32(0) is expected
