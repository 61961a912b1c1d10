"""Addresses and URLs that try to make a server connect to itself or its internal network."""


def words(text: str) -> list[str]:
    return text.split()


NOT_PUBLIC = words("""
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1
192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255
240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8
::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::7f00:1 64:ff9b:1:ffff::1 100::1 100:0:0:1::1 2001::1
2001:0:7f00:1:: 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: 2002:808:808::1 3fff::1
5f00::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 fe80::1%lo febf::1 fec0::1 ff02::1 ff0e::1
""")
"""IP addresses that are not public, or that are translated to others."""

BAD = [
    ("ftp://example.com/", "neither an http"),
    ("file:///etc/passwd", "neither an http"),
    ("gopher://127.0.0.1:25/", "neither an http"),
    ("javascript:alert(1)", "neither an http"),
    ("//example.com/", "neither an http"),
    ("example.com", "neither an http"),
    ("", "neither an http"),
    ("http:///path", "no host"),
    ("http:example.com", "no host"),
    ("http://?x", "no host"),
    ("http://user:word@example.com/", "credentials"),
    ("http://user@example.com/", "credentials"),
    ("http://@example.com/", "credentials"),
    ("http://example.com@127.0.0.1/", "credentials"),
    ("http://example.com:80@127.0.0.1:81/", "credentials"),
    ("http://example.com\\@127.0.0.1/", "backslash"),
    ("http:\\\\127.0.0.1\\", "backslash"),
    ("http://example.com/\\..\\x", "backslash"),
    ("http://127.0.0.1\x00.example.com/", "control"),
    ("http://example.com/\r\nHost: x", "control"),
    ("http://exam\tple.com/", "control"),
    (" http://example.com/", "control"),
    ("http://example.com/\u00a0", "control"),
    ("http://example.com/\u2028", "control"),
    ("http://2130706433/", "IPv4"),
    ("http://0x7f000001/", "IPv4"),
    ("http://0x7f.0.0.1/", "IPv4"),
    ("http://0177.0.0.1/", "IPv4"),
    ("http://017700000001/", "IPv4"),
    ("http://127.1/", "IPv4"),
    ("http://127.0.1/", "IPv4"),
    ("http://0/", "IPv4"),
    ("http://127.0.0.1./", "IPv4"),
    ("http://127.0.0.0x1/", "IPv4"),
    ("http://1.1.1.0x/", "IPv4"),
    ("http://0X7F.1/", "IPv4"),
    ("http://134744072/", "IPv4"),
    ("http://127\u30020\u30020\u30021/", "public"),
    ("http://127.0.0.1:8000/", "public"),
    ("http://169.254.169.254/latest/meta-data/", "public"),
    ("http://[::1]/", "public"),
    ("http://[::]/", "public"),
    ("http://[::ffff:127.0.0.1]/", "public"),
    ("http://[::ffff:7f00:1]/", "public"),
    ("http://[0:0:0:0:0:ffff:7f00:1]/", "public"),
    ("http://[64:ff9b::7f00:1]/", "public"),
    ("http://[fe80::1%25lo]/", "public"),
    ("http://[fe80::1%lo]/", "public"),
    ("http://[::1", "address"),
    ("http://[v1.x]/", "address"),
    ("http://\uff11\uff12\uff17.0.0.1/", "address"),
    ("http://\u2460\u2461\u2466.0.0.1/", "address"),
    ("http://\u2491.example.com/", "address"),
    ("http://127.0.0.1%2f.example.com/", "no name"),
    ("http://%31%32%37.0.0.1/", "no name"),
    ("http://a..b/", "no name"),
    ("http://.example.com/", "no name"),
    ("http://./", "no name"),
    ("http://a;b/", "no name"),
    ("http://a,b/", "no name"),
    ("http://a!b/", "no name"),
    ("http://" + "a." * 130 + "com/", "no name"),
    ("http://xn--/", "no name"),
    ("http://xn--a/", "no name"),
    ("http://XN--0/", "no name"),
    ("http://xn--\u00e9/", "address"),
    ("http://[fe80::1%\u00e9]/", "no name"),
    ("http://\ud800/", "half a character"),
    ("http://example.com/\udfff", "half a character"),
    ("http://example.com:0/", "port"),
    ("http://example.com:65536/", "port"),
    ("http://example.com:-1/", "port"),
    ("http://example.com:8x/", "address"),
    ("http://example.com/" + "a" * 8000, "longer"),
]
"""URLs that are refused without resolving them, and a word of the reason."""

LOOPBACK = words("""
127.0.0.1 localhost LOCALHOST 127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 0 0.0.0.0 127.0.0.1.
127.0.0.2 [::1] [::] [::ffff:127.0.0.1] [::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::] example.com@127.0.0.1
x:y@localhost inside.example mixed.example mapped.example sixtofour.example scoped.example
""")
"""Spellings of hosts that are this machine."""

NAMES = {
    "inside.example": ["127.0.0.1"],
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "scoped.example": ["fe80::1%lo"],
}
"""What the names in LOOPBACK resolve to."""
