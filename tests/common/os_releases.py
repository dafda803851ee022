"""os-release files that distributions ship, and odd ones. `distro/version` -> text."""

from __future__ import annotations

REAL = {
    # shortened to the lines that matter and those that look like them
    "debian/12": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL="https://www.debian.org/"\n',
    "debian/": 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=forky\nID=debian\n',
    "ubuntu/20.04": 'NAME="Ubuntu"\nVERSION="20.04.6 LTS (Focal Fossa)"\nID=ubuntu\nID_LIKE=debian\n'
    'PRETTY_NAME="Ubuntu 20.04.6 LTS"\nVERSION_ID="20.04"\nUBUNTU_CODENAME=focal\n',
    "fedora/40": 'NAME="Fedora Linux"\nVERSION="40 (Server Edition)"\nID=fedora\nVERSION_ID=40\n'
    'VERSION_CODENAME=""\nPLATFORM_ID="platform:f40"\nANSI_COLOR="0;38;2;60;110;180"\nVARIANT_ID=server\n',
    "centos/7": 'NAME="CentOS Linux"\nVERSION="7 (Core)"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="7"\n\n'
    'CENTOS_MANTISBT_PROJECT="CentOS-7"\nREDHAT_SUPPORT_PRODUCT_VERSION="7"\n',
    "rhel/8.6": 'NAME="Red Hat Enterprise Linux"\nID="rhel"\nID_LIKE="fedora"\nVERSION_ID="8.6"\n',
    "rocky/9.3": 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.3"\n',
    "almalinux/9.3": 'NAME="AlmaLinux"\nVERSION="9.3 (Shamrock Pampas Cat)"\nID="almalinux"\nVERSION_ID="9.3"\n',
    "amzn/2": 'NAME="Amazon Linux"\nVERSION="2"\nID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n',
    "ol/8.9": 'NAME="Oracle Linux Server"\nVERSION="8.9"\nID="ol"\nVARIANT_ID="server"\nVERSION_ID="8.9"\n',
    "sles/15.5": 'NAME="SLES"\nVERSION="15-SP5"\nVERSION_ID="15.5"\nID="sles"\nID_LIKE="suse"\n',
    "opensuse-leap/15.5": 'NAME="openSUSE Leap"\nVERSION="15.5"\nID="opensuse-leap"\nVERSION_ID="15.5"\n',
    "arch/": 'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\nBUILD_ID=rolling\n',
    "alpine/3.19.1": 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME="Alpine Linux v3.19"\n',
    "kylin/V10": 'NAME="Kylin Linux Advanced Server"\nVERSION="V10 (Tercel)"\nID="kylin"\nVERSION_ID="V10"\n',
    "bclinux/21.10U3": 'NAME="BigCloud Enterprise Linux"\nVERSION="21.10U3"\nID="bclinux"\nVERSION_ID="21.10U3"\n',
    "nixos/24.05": 'ANSI_COLOR="1;34"\nBUILD_ID="24.05.20240614"\nID=nixos\nNAME=NixOS\nVERSION_ID="24.05"\n',
    "linuxmint/21.3": "NAME='Linux Mint'\nID=linuxmint\nVERSION_ID='21.3'\n",
    "flatcar/3815.2.0": '# comment ID=no\nNAME="Flatcar\'s"\nID=flatcar\nID_LIKE=coreos\nVERSION_ID=3815.2.0\n',
}

ODD = {
    "nothing at all": ("linux/", None),
    "an empty file": ("linux/", ""),
    "no ID": ("linux/7", "NAME=Seven\nVERSION_ID=7\n"),
    "an empty ID": ("linux/7", "ID=\nVERSION_ID=7\n"),
    "an ID of two quotes": ("linux/", 'ID=""\n'),
    "a rolling release": ("void/", 'ID="void"\n'),
    "quotes in the middle": ("debian/12", "ID=deb\"ian\"\nVERSION_ID='1'2\n"),
    "escapes": ('a$b/1"2', 'ID=a\\$b\nVERSION_ID="1\\"2"\n'),
    "a backslash that protects nothing": ("a\\b/ab", 'ID="a\\b"\nVERSION_ID=a\\b\n'),
    "a comment behind the value": ("debian/12", "ID=debian # or so\nVERSION_ID=12\t# twelve\n"),
    "a hash inside": ("a#b/", "ID=a#b\n"),
    "a later line": ("second/", "ID=first\nID=second\n"),
    "a line that is commented out": ("debian/", "#ID=no\n # ID=no\nID=debian\n"),
    "lines of Windows": ("debian/12", "ID=debian\r\nVERSION_ID=12\r\n"),
    "white space before": ("debian/12", "  ID=debian\n\tVERSION_ID=12\n"),
    "an equals sign in the value": ("a=b/", "ID=a=b\n"),
    "no line end": ("debian/12", "ID=debian\nVERSION_ID=12"),
    "a quote that is not closed": ("linux/12", 'ID="debian\nVERSION_ID=12\n'),
    "white space around the equals sign": ("linux/", "ID = debian\n"),
    "a slash": ("linux/", "ID=a/b\nVERSION_ID=1/2\n"),
    "dots": ("linux/", "ID=..\nVERSION_ID=.\n"),
    "control characters": ("linux/", "ID=a\x1bb\nVERSION_ID=\x07\n"),
    "bytes that are no UTF-8": ("a\ufffd/", "ID=a\udcff\n"),
    "another line separator": ("debian/", "NAME=a\u2028ID=no\nID=debian\n"),
    "nonsense": ("linux/", "nonsense\n\n=\n = \n"),
}
"""What is odd -> the identity that it gives, and the text (None: there is no such file)."""
