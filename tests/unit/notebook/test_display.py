"""What a notebook shows has a static form; the form's values become a params file that says what it means."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from runbook_lib import files
from runbook_lib.changes import Event
from runbook_lib.chapters.forms import params_form
from runbook_lib.errors import HostError, ParamsError, RunbookError, Stopped
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.redaction import redactor
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology import tables

PARAMS = "params/greg-separated.lab.yaml"


@pytest.fixture
def fields() -> params_form.Fields:
    return params_form.Fields(PARAMS)


def test_the_file_of_a_form_reads_back_as_what_was_typed(fields: params_form.Fields, tmp_path: Path) -> None:
    fields.set("nodes", "{store: 3}")
    fields.set("cloud.disk_gb", "30")
    fields.set("publisher_allow_cidr", "[10.0.0.0/8, 192.168.0.0/16]")
    fields.set("memory.heap", "768m")
    path = tmp_path / "mine.yaml"
    path.write_text(fields.yaml())
    spec = load_spec(path)
    assert spec.nodes == {"store": 3, "publisher": 2}
    assert (spec.cloud.disk_gb, spec.memory.heap) == (30, "768m")
    assert spec.publisher_allow_cidr == ("10.0.0.0/8", "192.168.0.0/16")
    assert "# size of each root volume" in fields.yaml()


def test_a_key_set_back_to_its_default_leaves_the_file(fields: params_form.Fields) -> None:
    fields.set("cloud.disk_gb", "30")
    fields.set("cloud.disk_gb", "20")
    assert "disk_gb" not in fields.yaml()


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("nodes", "{stroe: 3}", "nearest: store"),
        ("cloud.disk_gb", "5", "from 8 to 1000"),
        ("cloud.network", "10.0.0.1/24", "10.0.0.0/24"),
    ],
)
def test_a_wrong_value_names_key_and_what_is_allowed(fields: params_form.Fields, key: str, text: str, words: str) -> None:
    fields.set(key, text)
    with pytest.raises(ParamsError) as caught:
        fields.spec()
    assert words in str(caught.value)
    assert key in str(caught.value)


def test_what_is_no_yaml_is_refused_at_once(fields: params_form.Fields) -> None:
    with pytest.raises(ParamsError, match="not YAML"):
        fields.set("nodes", "{store: 3")


def test_headless_the_form_is_a_table() -> None:
    assert "cloud.disk_gb" in str(params_form.choose_params(PARAMS))


def test_the_widgets_of_the_form_check_what_is_typed(fields: params_form.Fields) -> None:
    shown = params_form.ParamsForm(fields)
    assert "6 machines" in shown.answer.value
    shown._typed("cloud.disk_gb", "5")
    assert "cloud.disk_gb = 5" in shown.answer.value
    assert shown.save.disabled
    shown._typed("cloud.disk_gb", "30")
    assert not shown.save.disabled
    shown._chosen("as-cluster")
    assert "5 machines" in shown.answer.value


def test_the_form_has_the_words_of_its_fields_folded_below(fields: params_form.Fields) -> None:
    shown = params_form.ParamsForm(fields)
    assert shown.words.value.startswith("<details") and "<dt><b>bastion</b></dt>" in shown.words.value
    assert "papermill" not in shown.words.value, "no field's description says that"


def chosen(params: str, pattern: str, **typed: str) -> params_form.Fields:
    """The fields after a person typed some values and chose another pattern."""
    fields = params_form.Fields(params)
    for key, text in typed.items():
        fields.set(key.replace("__", "."), text)
    fields.choose(pattern)
    return fields


def test_another_pattern_keeps_name_cloud_and_product() -> None:
    fields = chosen(PARAMS, "greg-single", deployment="mine", cloud__network="10.9.0.0/24", cloud__disk_gb="30", nodes="{store: 3}")
    spec = fields.spec()
    assert (spec.deployment, spec.pattern, spec.cloud.network, spec.cloud.disk_gb) == ("mine", "greg-single", "10.9.0.0/24", 30)
    assert (spec.product.pack, spec.hosts["store"]) == ("s3://runbook-packs/wso2greg-5.1.0.zip", "store.lab.test")
    assert (spec.expect, spec.nodes) == ("leak", {"greg": 1}), "what the pattern decides is the new one's"


def test_another_product_has_another_pack_and_hosts() -> None:
    spec = chosen(PARAMS, "as-cluster", deployment="mine").spec()
    assert (spec.deployment, spec.product.pack) == ("mine", "s3://runbook-packs/wso2as-5.3.0.zip") and set(spec.hosts) == {"as", "mgt"}


@pytest.fixture
def of_aws(tmp_path: Path) -> str:
    """A params file for AWS, filled in."""
    text = (files.ROOT / "params" / "greg-separated.aws.yaml").read_text()
    path = tmp_path / "mine.aws.yaml"
    text = text.replace("# hosts:", "hosts:").replace("  pack:", "  pack: https://packs.example.com/greg.zip").replace("  sha256:", f"  sha256: {'a' * 64}")
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("pattern", ["greg-single", "greg-original", "as-cluster"])
def test_for_aws_no_value_of_the_lab_is_loaded(of_aws: str, pattern: str) -> None:
    fields = chosen(of_aws, pattern)
    assert not any(word in fields.yaml() for word in (".lab.test", "/run/ec2lab", "runbook-packs", "10.213."))
    assert fields.values["cloud.region"] == "us-east-1" and fields.given["deployment"] == "greg-separated"


def test_for_aws_the_form_asks_for_what_another_product_needs(of_aws: str) -> None:
    fields = chosen(of_aws, "as-cluster")
    with pytest.raises(ParamsError, match=r"product\.pack|hosts"):
        fields.spec()
    form = params_form.ParamsForm(params_form.Fields(of_aws))
    form._chosen("as-cluster")
    assert "rb-error" in form.answer.value and form.save.disabled
    form._typed("hosts", "{as: as.example.com, mgt: mgt.example.com}")
    form._typed("product.pack", "https://packs.example.com/as.zip")
    form._typed("product.sha256", "b" * 64)
    assert "5 machines" in form.answer.value and not form.save.disabled


CHOICES = [row.key for row in load_spec(PARAMS).reference() if row.choices and not row.required]


@pytest.mark.parametrize("key", CHOICES)
def test_every_choice_of_a_key_can_be_made_and_taken_back(fields: params_form.Fields, key: str) -> None:
    form = params_form.ParamsForm(fields)
    (box,) = [line.children[0] for group in form.keys.children for line in group.children if line.children[0].description == key]
    row = next(row for row in fields.rows if row.key == key)
    for number, label in enumerate(["default", *row.choices]):
        assert box.options[number][0] == label
        box.index = number  # as a browser sends it
        assert fields.values[key] == (None if label == "default" else label)
        assert f"{key} = " not in form.answer.value, "the value itself is one that can be"
        assert (f"{key.rpartition('.')[2]}: " in fields.yaml()) == (label != "default" and (label != row.default or key == "hardening"))


@pytest.mark.parametrize("pattern", ["greg-single", "greg-original"])
def test_a_choice_that_is_the_default_of_another_pattern_is_not_dropped(pattern: str) -> None:
    fields = params_form.Fields(f"params/{pattern}.lab.yaml")
    fields.set("hardening", "full")
    with pytest.raises(ParamsError, match="hardening = 'full'"):
        fields.spec()
    fields.set("hardening", "")
    assert fields.spec().hardening == "hosts"


def test_off_is_a_word_in_a_params_file_too() -> None:
    assert load_spec(PARAMS, {"nginx.content_security_policy": False}).nginx.content_security_policy == "off"


@pytest.mark.parametrize("pattern", ["greg-separated", "as-cluster"])
def test_a_person_completes_a_file_that_is_shipped_without_hosts_and_pack(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = f"params/{pattern}.aws.yaml"
    with pytest.raises(ParamsError, match=r"product\.pack"):
        params_form.choose_params(file)
    monkeypatch.setattr(display, "interactive", lambda: True)
    form = params_form.choose_params(file)
    assert "product.pack" in form.answer.value and "rb-error" in form.answer.value and form.save.disabled
    assert form.fields.values["cloud.region"] == "us-east-1" and form.params_file == file
    form._typed("hosts", "{as: as.example.com, mgt: mgt.example.com}" if pattern == "as-cluster" else "{store: s.example.com, publisher: p.example.com}")
    form._typed("product.pack", "https://packs.example.com/pack.zip")
    form._typed("product.sha256", "b" * 64)
    assert "machines" in form.answer.value and not form.save.disabled


def test_a_wrong_value_of_a_file_is_shown_and_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((files.ROOT / PARAMS).read_text().replace("hardening: full", "hardening: fulll").replace("store: 2", "store: 99"))
    form = params_form.ParamsForm(params_form.Fields(path))
    assert "hardening = &#x27;fulll&#x27;" in form.answer.value
    form._typed("hardening", "full")
    form._typed("nodes", "{store: 2}")
    assert "6 machines" in form.answer.value


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hardening: full", "hardning: full", "there is no such key"),
        ("deployment: greg-separated", "deployment: ../mine", "deployment = "),
        ("deployment: greg-separated", "", "deployment is missing"),
        ("pattern: greg-separated", "pattern: greg", "pattern = 'greg'"),
        ("nodes: {store: 2", "nodes: {store: 2]", "not YAML"),
    ],
)
def test_what_no_field_can_put_right_is_refused_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((files.ROOT / PARAMS).read_text().replace(old, new, 1))
    with pytest.raises(ParamsError, match=words) as caught:
        params_form.Fields(path)
    assert str(path) in str(caught.value.where)


def test_progress_that_fails_leaves_where_each_host_stood(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HostError), progress_.progress("MySQL", ["db-1"]) as progress:
        progress(Event("db-1", "packages", "install <x>", 3, 9))
        raise HostError("full", "db-1")
    assert "db-1: packages, 3 of 9: install <x>" in capsys.readouterr().out


def test_bars_are_full_when_all_is_done_and_move_where_nobody_knows_how_much_there_is() -> None:
    seen: list[Event] = []
    shown = progress_.Progress("Launch", ["lb-1", "db-1"])
    shown.draw = seen.append  # type: ignore[method-assign]
    shown(Event("lb-1", "launch", "running", 3, 7))
    shown(Event("db-1", "first boot", "boots", 0, 0))
    shown.whole("waiting for SSH")
    assert [(event.host, event.done, event.of) for event in seen[2:]] == [("lb-1", 7, 7), ("db-1", 1, 1)]
    assert 'max="7" value="3"' in progress_._bar("lb-1", 3, 7) and "value" not in progress_._bar("db-1", 0, 0)
    assert str(Event("db-1", "first boot", "boots", 0, 0)) == "db-1: first boot, boots"


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_asks_the_hosts_to_stop_first() -> None:
    with pytest.raises(Stopped, match="MySQL: interrupted"), progress_.progress("MySQL", ["db-1"]) as progress:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            assert progress.stop.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_every_apply_that_is_shown_can_be_stopped_at_once_and_none_that_comes_later() -> None:
    with progress_.progress("Restore", ["db-1"]) as outer, progress_.progress("MySQL", ["db-1"]) as inner:
        progress_.stop_all()
    with progress_.progress("Restore", ["db-1"]) as later:
        assert outer.stop.is_set() and inner.stop.is_set() and not later.stop.is_set()


def test_an_error_card_folds_the_way_and_names_no_path_of_this_machine() -> None:
    try:
        load_spec(PARAMS, {"nodes.store": 99})
    except ParamsError as error:
        card = display.error_card(error)
    assert "<details>" in card
    assert "runbook_lib/spec/loader.py:" in card
    assert f"{files.ROOT}/runbook_lib" not in card


def test_every_view_has_words_as_well() -> None:
    assert "greg-original" in str(params_form.show_patterns())
    rules = tables.rules(params_form.show_patterns().topologies[3])
    assert "Hazelcast" in str(rules)
    assert all(row[3] for row in rules.rows)
    assert "wso2_user" in str(tables.databases(load_spec(PARAMS)))


def test_a_cancel_stops_between_two_calls_to_the_cloud_but_never_in_the_middle_of_a_hosts_stage() -> None:
    progress = progress_.Progress("Launch", ["db-1"])
    progress.stop.set()
    progress(Event("db-1", "packages", "install", 1, 9))  # a host ends its stage: converge looks at `stop` between stages
    with pytest.raises(RunbookError, match=r"stopped at db-1 \(launching a t3.small\), as asked") as caught:
        progress(Event("db-1", "launch", "launching a t3.small", 1, 3, may_stop=True))
    assert "goes on from here" in str(caught.value)


def test_what_a_form_shows_is_an_output_and_holds_no_secret() -> None:
    import ipywidgets

    redactor.add("shown-test", "Shown0In1No2Output")
    shown = display.Shown(ipywidgets)
    shown.value = '<a href="01_launch_ec2.ipynb">01</a> Shown0In1No2Output'
    assert shown.box.outputs[0]["data"]["text/html"] == '<a href="01_launch_ec2.ipynb">01</a> [shown-test]'
    shown.value = ""
    assert shown.box.outputs == ()
