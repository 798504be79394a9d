"""Text from elsewhere is made harmless in one place; passwords in SQL and in mistyped URLs are never shown."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from check_delayed_repl.words import clean, masked

QUERY = "Error 'Operation failed for 'hb'@'%'' on query. Default database: ''. Query: '{}'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("create user hb@'%' identified by 'S3'", "create user hb@'%' identified by ***"),
        ("ALTER USER a IDENTIFIED BY PASSWORD '*S3' REQUIRE X", "ALTER USER a IDENTIFIED BY PASSWORD *** REQUIRE X"),
        ("ALTER USER a IDENTIFIED BY 'S3' REPLACE 'S3old'", "ALTER USER a IDENTIFIED BY *** REPLACE ***"),
        (
            "CREATE USER a IDENTIFIED WITH 'caching_sha2_password' AS '$A$S3' REQUIRE NONE",
            "CREATE USER a IDENTIFIED WITH 'caching_sha2_password' AS *** REQUIRE NONE",
        ),
        (
            "CREATE USER a IDENTIFIED WITH x BY 'S3' AND IDENTIFIED WITH y BY 'S3b'",
            "CREATE USER a IDENTIFIED WITH x BY *** AND IDENTIFIED WITH y BY ***",
        ),
        (
            "CREATE USER a IDENTIFIED VIA ed25519 USING PASSWORD('S3') OR x AS 'S3' OR unix_socket",
            "CREATE USER a IDENTIFIED VIA ed25519 USING PASSWORD(***) OR x AS *** OR unix_socket",
        ),
        ("SET PASSWORD FOR 'a=b'@'%' = PASSWORD('S3')", "SET PASSWORD FOR 'a=b'@'%' = PASSWORD(***)"),
        ("SET PASSWORD = OLD_PASSWORD (\"S3\")", "SET PASSWORD = OLD_PASSWORD (***)"),
        ("UPDATE mysql.user SET `authentication_string` = 'S3'", "UPDATE mysql.user SET `authentication_string` = ***"),
        ("CHANGE MASTER TO MASTER_PASSWORD='S3', MASTER_PORT=1", "CHANGE MASTER TO MASTER_PASSWORD=***, MASTER_PORT=1"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD=S3;", "CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD=***;"),
        ("CREATE SERVER s OPTIONS (PASSWORD 'S3', PORT 1)", "CREATE SERVER s OPTIONS (PASSWORD ***, PORT 1)"),
        ("START REPLICA USER = 'u' PASSWORD = 'S3'", "START REPLICA USER = 'u' PASSWORD = ***"),
        ('{"auth_string": "S3", "x": 1}', '{"auth_string": ***, "x": 1}'),
        ("SET PASSWORD = 'S3' REPLACE 'S3old' RETAIN", "SET PASSWORD = *** REPLACE *** RETAIN"),
        ("CREATE SERVER s OPTIONS(PASSWORD'S3',USER'u')", "CREATE SERVER s OPTIONS(PASSWORD***,USER'u')"),
        ("a IDENTIFIED BY 0x5333, b IDENTIFIED BY X'53'", "a IDENTIFIED BY ***, b IDENTIFIED BY ***"),
        ("CHANGE MASTER TO MASTER_PASSWORD='S3\\", "CHANGE MASTER TO MASTER_PASSWORD=***"),
        ("INSERT INTO t VALUES (AES_ENCRYPT('x', UNHEX(SHA2('S3', 512))))", "INSERT INTO t VALUES (AES_ENCRYPT(***"),
        ("update t set a = des_decrypt /* k */ (b, 'S3')", "update t set a = des_decrypt /* k */ (***"),
        ("SELECT ENCODE(x, \"S3\")", "SELECT ENCODE(***"),
        ("SELECT 1 FROM u WHERE h = MD5('S3')", "SELECT 1 FROM u WHERE h = MD5(***"),
        ("SET GLOBAL wsrep_sst_auth='sst:S3'", "SET GLOBAL wsrep_sst_auth=***"),
        ("SET @a := 'S3', @`b` = 1, @pw='S3'", "SET @a := ***, @`b` = 1, @pw=***"),
        ("SET @secret = CONCAT('S3', 'x'), @y = 1", "SET @secret = ***"),
        ("api_key=S3 x", "api_key=*** x"),
        ('{"x": 1, "apiToken": "S3"}', '{"x": 1, "apiToken": ***}'),
        ('{\\"client_secret\\": \\"S3\\"}', '{\\"client_secret\\": ***}'),
        ("Authorization: Bearer S3", "Authorization: Bearer ***"),
        ("INSERT INTO u (n, `password`, x) VALUES ('a', 'S3', 1)", "INSERT INTO u (n, `password`, x) VALUES***"),
        ("REPLACE INTO u(api_key) VALUE('S3')", "REPLACE INTO u(api_key) VALUE***"),
        ("UPDATE u SET pw='S3' WHERE `db_pass` <> 'S3' OR pwd LIKE '%S3' OR token IN ('S3')",
         "UPDATE u SET pw=*** WHERE `db_pass` <> *** OR pwd LIKE *** OR token IN (***)"),
        ("INSERT INTO user VALUES ('%', 'a', '*53BADF00D6BB4837EB74329105EE4568DDA7DC67')",
         "INSERT INTO user VALUES ('%', 'a', '***')"),
        ("mysql:/u:S3@h/db: no such file", "mysql:/u:***@h/db: no such file"),
        ("MYSQL//u:S/3@S3@h/db", "MYSQL//u:***@h/db"),
        ("mysql:u:S3@h", "mysql:u:***@h"),
        ("u:S3@h/db", "u:***@h/db"),
        ("mysql://u:S3", "mysql://u:***"),
    ],
)  # fmt: skip
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert "S3" not in clean(QUERY.format(text))
    assert "S3" not in clean(clean(QUERY.format(text)))


@pytest.mark.parametrize(
    "text",
    [
        "Access denied for user 'a'@'h' (using password: YES)",
        "error connecting to 'repl@10.0.0.1:3306' by 'x' as 'y'",
        "Plugin 'mysql_native_password' is not loaded",
        "https://db.example:3306/x",
        "Authentication plugin 'caching_sha2_password' reported error: Authentication requires secure connection.",
        "Could not execute Write_rows event on table shop.api_key; Duplicate entry '7' for key 'api_key.PRIMARY'",
        "Column 'password' cannot be null",
        "FUNCTION shop.decode does not exist",
        "near token 'x' at line 1",
        "mysql://nagios@db1:3306/h?ssl-key=/etc/x.pem",
        "SET PASSWORD FOR 'a'@'b' TO RANDOM",
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert masked(text) == text


SECRET = "Zq7"
gaps = st.sampled_from([" ", "\n\t", "/**/", "/* it's */ ", " -- isn't\n", '#"\n', "/*!50700 ", " */ "])
marks = st.sampled_from(["'", '"', "\\'", '\\"', "''", '""'])
before = st.sampled_from(
    [
        ["CREATE USER 'a'@'%' IDENTIFIED", "BY"],
        ["x", "identified", "BY", "password"],
        ["Grant all on *.* to a Identified", "with", "'sha256_password'", "as"],
        ["ALTER USER a IDENTIFIED VIA p USING", "PASSWORD", "("],
        ["SET PASSWORD", "="],
        ["SET PASSWORD FOR 'a'@'%'", "=", "PASSWORD("],
        ["change master to master_password", "="],
        ["CREATE SERVER s OPTIONS (USER 'u', PASSWORD"],
        ["SET @x", ":="],
        ["Set Global wsrep_sst_auth", "="],
        ["select aes_decrypt", "(", "c,"],
        ["insert into u (name, password)", "values", "(7,"],
        ["update u set api_key", "="],
        ["delete from u where secret", "like"],
    ]
)


def quoted(mark: str, parts: list[str]) -> str:
    """A text made of parts, as a writer would quote it."""
    escape, quote = mark[:-1] if mark[0] == "\\" else "", mark[-1]
    inner = {
        "q": f"{escape}\\{quote}" if escape else mark * 2,
        "b": "\\\\" * (2 if escape else 1),
        "o": "\"'"[quote == '"'],
    }
    return mark + "".join(inner.get(part, part) for part in parts) + mark


@given(
    words=before,
    gap=st.lists(gaps, min_size=4, max_size=4),
    mark=marks,
    parts=st.lists(st.sampled_from(["q", "b", "o", " ", ";", ")", ",", "=", "x", "--", SECRET]), max_size=6),
    cut=st.integers(0, 12),
    after=st.sampled_from(["", " REQUIRE SSL", ", 'b'@'%' IDENTIFIED BY 'Zq7'", ")', Error_code: 1396"]),
    outer=st.booleans(),
    upper=st.booleans(),
)
@example(
    ["SET PASSWORD FOR 'a'@'%'", "=", "PASSWORD("],
    ["/* it's */ ", " ", "/* it's */ ", " "],
    "''",
    ["="],
    0,
    "",
    False,
    False,
)
@example(["SET PASSWORD", "="], [" "] * 4, "'", ["q"], 0, ", 'b'@'%' IDENTIFIED BY 'Zq7'", True, False)
def test_no_password_in_any_quoting(
    words: list[str], gap: list[str], mark: str, parts: list[str], cut: int, after: str, outer: bool, upper: bool
) -> None:
    literal = quoted(mark, [SECRET, *parts, SECRET])
    if upper:
        words = [word.swapcase() for word in words]
    text = "".join(word + one for word, one in zip(words, gap, strict=False)) + literal
    text = text[:-cut] if cut else text + after
    if outer:
        text = QUERY.format(text)
    for shown in (masked(text), clean(text), clean(clean(text)), clean("(error 1: " + clean(text) + ")")):
        assert SECRET not in shown


@given(
    st.sampled_from(["mysql://", "mysql:/", "mysql:", "MYSQL//", "mariadb;//", "x:///", ""]),
    st.text("abc:@/?#%&|'\"", min_size=1, max_size=8),
)
def test_no_password_of_a_mistyped_url(scheme: str, rest: str) -> None:
    if not scheme and set(rest) & set("'\"@/:"):
        return
    assert SECRET not in clean(f"cannot open {scheme}user:{SECRET}{rest}{SECRET}@db.example/x: no such file")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain text, as it is: 'x'@'y' 100% [a] {b} ~ ü", "plain text, as it is: 'x'@'y' 100% [a] {b} ~ ü"),
        ("two\nlines\r\n\tand  spaces ", "two lines and spaces"),
        ("x | rta=0", "x / rta=0"),
        ("<script>alert('1')</script>", "(script)alert('1')(/script)"),
        ('`id` $(id) "q" a&b \\n', "'id' _(id) 'q' a+b /n"),
        ("nul\0bell\x07esc\x1b[31m", "nul?bell?esc?[31m"),
        ("right\u202eto\u200bleft\u2028line\udcff", "right?to?left line?"),
    ],
)
def test_what_is_printed(text: str, printed: str) -> None:
    assert clean(text) == printed


@given(st.text(), st.integers(3, 50))
def test_whatever_comes_in_is_one_short_printable_line(text: str, length: int) -> None:
    printed = clean(text, length)
    assert printed.isprintable()
    assert len(printed) <= length
    assert not set(printed) & set('|<>&`"$\\')
    printed.encode()


def test_a_long_text_says_that_it_was_cut() -> None:
    assert clean("x" * 100_000_000, 10) == "xxxxxxx..."
