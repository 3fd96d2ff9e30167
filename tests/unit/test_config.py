import dataclasses

import pytest

from scrapray.config import (
    ArchiveConfig,
    AuditConfig,
    GateLogConfig,
    StorageConfig,
    environment,
    read_config,
    sha256_of,
)
from scrapray.errors import ConfigurationError


def read(tmp_path, text):
    path = tmp_path / "audit.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def refusal(tmp_path, text):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "audit.toml")), "the file is named"
    assert "\n" not in message, "one line"
    return message


def test_without_a_file_all_settings_have_their_defaults(tmp_path):
    assert read_config(None) == AuditConfig() == read(tmp_path, "")


def test_sections_and_keys_are_read_with_their_types(tmp_path):
    config = read(
        tmp_path,
        """
        [archive]
        key_pattern = "{site}/{date}/{camera_id}_{time}.jpg"
        suffixes = [".jpg"]
        max_gap_s = 60

        [gate_log]
        uri = "s3://yard/gate_log.csv"
        columns = { from = "ankunft", until = "abfahrt" }

        [storage]
        endpoint_url = "http://127.0.0.1:8333"

        [cameras."cam 1"]
        bed_polygon_px = [[0, 0], [100, 0], [100, 50.5]]
        """,
    )
    assert config.archive.suffixes == (".jpg",)
    assert config.archive.max_gap_s == 60
    assert config.gate_log.columns == {"from": "ankunft", "until": "abfahrt"}
    assert config.storage.endpoint_url == "http://127.0.0.1:8333"
    assert config.cameras["cam 1"].bed_polygon_px == ((0, 0), (100, 0), (100, 50.5))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: no such configuration file"):
        read_config(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("text", ["[archive", "a = ", "key: value"])
def test_a_file_that_is_not_toml_is_named(text, tmp_path):
    assert "not readable as TOML" in refusal(tmp_path, text)


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not readable as TOML"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[archiv]\nsite = 'n'", "archiv"),
        ("[archive]\nsize = 'n'", "archive.size"),
        ("[cameras.c]\npolygon = []\nbed_polygon_px = [[0,0],[1,0],[1,1]]", "cameras.c.polygon"),
        ("[gate_log]\nuri = 'x'\nzone = 'UTC'", "gate_log.zone"),
    ],
)
def test_an_unknown_key_is_refused_by_its_name(text, key, tmp_path):
    assert f"unknown key {key}; remove it or correct its name" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[archive]\nkey_pattern = ''", "[archive] key_pattern is empty"),
        ("[archive]\nkey_pattern = 'a/b.jpg'", "[archive] key_pattern 'a/b.jpg' has no named part"),
        ("[archive]\nmax_gap_s = 0", "[archive] max_gap_s is 0.0, must be above 0"),
        ("[archive]\ntime_zone = 'Europe/Roma'", "[archive] time_zone 'Europe/Roma' is not known; use a name such as"),
        ("[gate_log]\nuri = 'x'\ntime_zone = '../etc'", "[gate_log] time_zone '../etc' is not known"),
        (
            "[gate_log]\nuri = 'x'\ncolumns = { truck = 'a' }",
            "[gate_log] columns.truck is not one of truck_id, load_id",
        ),
        ("[gate_log]\njoin_on = 'crane'", "gate_log.uri"),
        ("[storage]\nmax_attempts = 0", "[storage] max_attempts is 0, must be 1 or more"),
        ("[storage]\nconnect_timeout_s = -1", "[storage] connect_timeout_s is -1.0, must be above 0"),
        ("[storage]\nread_timeout_s = 0", "[storage] read_timeout_s is 0.0, must be above 0"),
        ("[storage]\nendpoint_url = '127.0.0.1:8333'", "[storage] endpoint_url must be a URL such as https://"),
        ("[storage]\nmax_attempts = 'many'", "storage.max_attempts is 'many': input should be a valid integer"),
        ("[cameras.c]\nbed_polygon_px = [[0, 0], [1, 1]]", "[cameras.c] bed_polygon_px has 2 corners, needs 3 or more"),
        (
            "[cameras.c]\nbed_polygon_px = [[0, 0], [9, 9], [9, 0], [0, 5]]",
            "[cameras.c] bed_polygon_px has sides that cross; give corners in order",
        ),
        (
            "[cameras.c]\nbed_polygon_px = [[-5, 0], [9, 0], [9, 9]]",
            "[cameras.c] bed_polygon_px has the corner [-5.0, 0.0]; coordinates are pixels from the top left, 0 or",
        ),
        ("[quality]\nmax_dark_frac = 1.5", "[quality] max_dark_frac is 1.5, must be 0 to 1"),
        ("[segment]\nthresholds = { motor = 1.0 }", "[segment] thresholds.motor is 1.0, must be between 0 and 1"),
        ("[segment]\nseverities = { motor = 4 }", "[segment] severities.motor is 4, must be 1 to 3"),
        ("[resources]\nactors = 0", "[resources] actors is 0, must be 1 to 10000"),
        ("[resources]\ndownload_tasks = 99999999999", "[resources] download_tasks is 99999999999, must be 1 to 10000"),
        ("[segment]\ntiles_per_batch = 99999999999", "[segment] tiles_per_batch is 99999999999, must be 1 to 1024"),
        ("[resources]\ngpus_per_actor = 1.5", "[resources] gpus_per_actor is 1.5, must be a share below 1 or a whole"),
        ("[resources]\ngpus_per_actor = -1", "[resources] gpus_per_actor is -1.0, must be a share below 1 or a whole"),
        ("[archive]\nsuffixes = []", "[archive] suffixes are [], must be endings of keys in lower case"),
        ("[archive]\nsuffixes = ['.JPG']", "[archive] suffixes are ['.JPG'], must be endings of keys in lower case"),
        ("[archive]\nsite = ' '", "[archive] site is empty; leave it out"),
        ("[quality]\nmin_frozen_difference = 50", "[quality] min_frozen_difference is 50.0, must be 0 to 1"),
        ("[quality]\nmin_brightness = 0.95", "[quality] min_brightness is 0.95, must be below max_brightness, 0.94"),
        (
            "[[verdict.rules]]\nname = 'a'\nverdict = 'review'\nmin_severity = 4",
            "rule 'a': min_severity is 4, must be 1 to 3",
        ),
        ("[limits]\nmax_rejected_frac = 2", "[limits] max_rejected_frac is 2.0, must be 0 to 1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_field_value_and_range(text, message, tmp_path):
    assert message in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[resources]\nactors = '2'", "resources.actors is '2': input should be a valid integer"),
        ("[resources]\nactors = true", "resources.actors is True: input should be a valid integer"),
        ("[quality]\nmax_pixels = 1e7", "quality.max_pixels is 10000000.0: input should be a valid integer"),
        ("[segment]\nseverities = { motor = 3.0 }", "segment.severities.motor is 3.0: input should be a valid integer"),
        ("[limits]\nalert_exit_code = 'no'", "limits.alert_exit_code is 'no': input should be a valid boolean"),
        ("[limits]\nalert_exit_code = 0", "limits.alert_exit_code is 0: input should be a valid boolean"),
        ("[limits]\nmax_rejected_frac = true", "limits.max_rejected_frac is True: input should be a valid number"),
        ("[cameras.c]\nbed_polygon_px = [['0', 0]]", "bed_polygon_px.0.0 is '0': input should be a valid number"),
        ("[archive]\nsite = 5", "archive.site is 5: input should be a valid string"),
        ("[archive]\nsuffixes = '.jpg'", "archive.suffixes is '.jpg': input should be a valid array"),
        ("[cameras]\nnorth = [[0, 0]]", "cameras.north is [[0, 0]]: input should be an object"),
        ("[resources]\nno_progress_timeout_s = inf", "no_progress_timeout_s is inf: input should be a finite number"),
        ("[quality]\nmin_sharpness = nan", "quality.min_sharpness is nan: input should be a finite number"),
        ("[cameras.c]\nbed_polygon_px = [[nan, 0]]", "bed_polygon_px.0.0 is nan: input should be a finite number"),
        ("[segment]\nthresholds = { motor = inf }", "segment.thresholds.motor is inf: input should be a finite number"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_converted(text, message, tmp_path):
    assert message in refusal(tmp_path, text)


def test_a_secret_in_the_endpoint_is_refused_and_not_repeated(tmp_path):
    message = refusal(tmp_path, "[storage]\nendpoint_url = 'https://key:verysecret@s3.example.com'")
    assert "give keys through the AWS environment" in message
    assert "verysecret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "http://object_store:8333",
        "http://object store:8333",
        "http://store:99999",
        "http://store:secret",
        "http://[store",
        "http://",
        "ftp://store",
    ],
)
def test_an_endpoint_that_cannot_be_one_is_refused_and_not_repeated(url, tmp_path):
    message = refusal(tmp_path, f"[storage]\nendpoint_url = '{url}'")
    assert "[storage] endpoint_url must be a URL such as https://s3.example.com:9000" in message
    assert "botocore refuses an underscore" in message
    assert url not in message and "secret" not in message


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8333", "https://s3.example.com/", "HTTP://[::1]:9000/a_b/", "http://h"]
)
def test_an_endpoint_may_be_a_name_or_a_number(url):
    assert StorageConfig(endpoint_url=url).endpoint_url == url


def test_several_faults_are_told_at_once(tmp_path):
    message = refusal(tmp_path, "[archive]\nsize = 1\n[storage]\nmax_attempts = 0")
    assert "archive.size" in message
    assert "max_attempts" in message


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ArchiveConfig().site = "n"


def test_as_dict_holds_the_sections_that_are_asked_for():
    config = AuditConfig(gate_log=GateLogConfig(uri="x"), storage=StorageConfig(region="eu-1"))
    assert set(config.as_dict()) == {field.name for field in dataclasses.fields(AuditConfig)}
    assert config.as_dict("storage")["storage"]["region"] == "eu-1"
    assert set(config.as_dict("archive", "quality")) == {"archive", "quality"}


def test_the_hash_of_settings_depends_on_values_and_not_on_order():
    assert sha256_of({"a": 1, "b": [1, 2]}) == sha256_of({"b": [1, 2], "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": 2})
    assert len(sha256_of({})) == 64


def test_environment_reads_one_variable(monkeypatch):
    monkeypatch.setenv("SCRAPRAY_TEST", "x")
    assert environment("SCRAPRAY_TEST") == "x"
    monkeypatch.delenv("SCRAPRAY_TEST")
    assert environment("SCRAPRAY_TEST") is None


def test_an_address_is_never_shown(tmp_path):
    message = refusal(tmp_path, "[storage]\nendpoint_url = ['https://key:secret@host']")
    assert "storage.endpoint_url" in message and "secret" not in message


def test_a_file_from_windows_is_read(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text("[archive]\nsite = 'north'\n", encoding="utf-8-sig")
    assert read_config(path).archive.site == "north"


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read as a file: Is a directory"):
        read_config(tmp_path)
