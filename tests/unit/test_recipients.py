"""The section ``[alerts]``: what it takes, and what it must never let out."""

import pytest

from scrapray.config import read_config
from scrapray.errors import ConfigurationError

WEBHOOK = '[alerts.webhook]\nurl_env = "HOOK_URL"\nsecret_env = "HOOK_SECRET"\n'
EMAIL = '[alerts.email]\nhost = "smtp.example.com"\nsender = "a@example.com"\nrecipients = ["b@example.com"]\n'
LOGIN = 'user_env = "MAIL_USER"\npassword_env = "MAIL_PASSWORD"\n'


def read(tmp_path, text):
    path = tmp_path / "audit.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path).alerts


def refusal(tmp_path, text):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    return str(caught.value)


def test_all_ways_are_read(tmp_path):
    alerts = read(tmp_path, f'[alerts]\nfile = "alerts.jsonl"\ntimeout_s = 3\n{WEBHOOK}{EMAIL}{LOGIN}')
    assert alerts.webhook.secret_env == "HOOK_SECRET"
    assert alerts.email.recipients == ("b@example.com",)
    assert (alerts.email.port, alerts.email.security) == (587, "starttls")
    assert alerts.file == "alerts.jsonl"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[alerts]\nfile = "s3://yard/alerts.jsonl"', "must be a path on this machine"),
        ('[alerts]\nfile = " "', "must be a path on this machine"),
        ('[alerts]\nfile = "~/alerts.jsonl"', "must be written out"),
        ('[alerts]\nfile = "a\\u0000b"', "must be a path on this machine"),
        ("[alerts]\nmax_attempts = 0", "max_attempts is 0, must be 1 to 10"),
        ("[alerts]\ntimeout_s = 0", "timeout_s is 0.0, must be above 0"),
        ("[alerts]\ntimeout_s = nan", "timeout_s is nan: input should be a finite number"),
        ('[alerts]\nurl = "https://a.example"', "unknown key alerts.url"),
        ('[alerts.webhook]\nurl_env = "HOOK_URL"', "alerts.webhook.secret_env"),
        (EMAIL.replace("smtp.example.com", "smtp.example.com:25"), "must be a name or address of a server"),
        (EMAIL.replace('["b@example.com"]', "[]"), "recipients is empty"),
        (EMAIL.replace("b@example.com", "b@example.com, c@example.com"), "is no address such as"),
        (EMAIL.replace("b@example.com", "b@example.com\\r\\nBcc: c@example.com"), "is no address such as"),
        (EMAIL.replace("a@example.com", "Yard <a@example.com>"), "is no address such as"),
        (f"{EMAIL}port = 0", "port is 0, must be 1 to 65535"),
        (f'{EMAIL}user_env = "MAIL_USER"', "user_env and password_env go together"),
        (f'{EMAIL}{LOGIN}security = "none"', 'a password needs security = "starttls" or "tls"'),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(text, words, tmp_path):
    assert words in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "address",
    [
        "a,c@x.com",
        "a@b@c",
        "[@x",
        "(@x",
        "<a@x",
        "a;b@x",
        "a:b@x",
        '"a"@x',
        "a@.",
        "a@-",
        "a@x..y",
        ".a@x",
        "=?utf-8?q?a?=@x",
    ],
)
def test_an_address_that_mail_reads_as_another_is_refused(address, tmp_path):
    assert "is no address such as" in refusal(tmp_path, EMAIL.replace('"b@example.com"', repr(address)))


@pytest.mark.parametrize("address", ["o'neil+scrap@x.example", "a.b=c@mail-1.x.example", "root@localhost"])
def test_an_unusual_address_is_taken(address, tmp_path):
    assert read(tmp_path, EMAIL.replace("b@example.com", address)).email.recipients == (address,)


@pytest.mark.parametrize("secret", ["hush-hush-hush", "https://hooks.example.com/hush", "whsec_aHVzaA=="])
@pytest.mark.parametrize("key", ["url_env", "secret_env"])
def test_a_secret_in_place_of_its_name_is_refused_and_not_shown(key, secret, tmp_path):
    values = {"url_env": "HOOK_URL", "secret_env": "HOOK_SECRET"} | {key: secret}
    words = refusal(tmp_path, "[alerts.webhook]\n" + "".join(f'{name} = "{value}"\n' for name, value in values.items()))
    assert f"{key} must be the name of an environment variable" in words
    assert secret not in words


def test_a_secret_that_is_a_number_is_not_shown_either(tmp_path):
    words = refusal(tmp_path, '[alerts.webhook]\nurl_env = "HOOK_URL"\nsecret_env = 834756923\n')
    assert "secret_env" in words
    assert "834756923" not in words
