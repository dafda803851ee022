"""Kernels in guests, with a stand-in for qemu: what does not boot, hangs, panics or runs out of memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hatch_bpf.errors import LabError
from hatch_bpf.kernels.configurations import ConfigFile
from hatch_bpf.kernels.identity import Kernel
from hatch_bpf.kernels.images import ImageFile
from hatch_bpf.lab import cpio, guest_files, machine
from hatch_bpf.lab.guest_files import GuestRoot, Payload
from hatch_bpf.lab.selection import Selection
from hatch_bpf.lab.trying import try_kernels
from hatch_bpf.portability.trial import Happened, KernelTrial, Way
from hatch_bpf.portability.verdicts import KernelReport, ProgramVerdict, Verdict
from hatch_bpf.wheel.embedded_btfs import pack_btfs
from tests.common import fake_qemu
from tests.common.kernel_images import btf

KERNEL = Kernel.parse("debian/12/x86_64/6.1.0-9-amd64")
UP = 'say(up=True, release="6.1.0-9-amd64")\n'
DONE = "\nsay(done=True, oom=0)"
PROGRAM = ProgramVerdict("prog.bpf.o", "one", Verdict.LOADS, ())


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_kvm", lambda _: False)
    monkeypatch.setattr(guest_files, "_sections", lambda *_: {"one": "kprobe/do_unlinkat"})


class Lab:
    """What a test needs to try one kernel."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.image = folder / "vmlinuz"
        self.image.write_bytes(fake_qemu.bzimage())
        self.configs: dict[Kernel, ConfigFile] = {}

    def run(self, body: str, *, command: tuple[str, ...] = (), seconds: float = 60.0) -> KernelTrial:
        fake_qemu.install(self.folder / "bin", body, self.monkeypatch)
        site = {
            "site/demo/_bpf/x86_64/prog.bpf.o": cpio.file(b""),
            "site/demo/_bpf/kernels.btfs": cpio.file(pack_btfs({KERNEL: btf("int")})),
        }
        root = GuestRoot({}, "/usr/bin/python3", "/usr/lib/libbpf.so.1", "x86_64", "")
        payload = Payload(root, site, {}, command)
        (trial,) = try_kernels(
            [KernelReport(KERNEL, (PROGRAM,))],
            Selection({KERNEL: ImageFile(self.image, None)}, self.configs, {}),
            {"x86_64": payload},
            jobs=1,
            megabytes=512,
            seconds=seconds,
            parameters=("lsm=capability,bpf",),
            done=lambda _: None,
        )
        return trial


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path, monkeypatch)


def test_what_happened_is_told(lab: Lab) -> None:
    trial = lab.run(UP + "load('attaches')" + DONE)
    (program,) = trial.programs
    assert {way: attempt.happened for way, attempt in program.attempts.items()} == {
        Way.OWN: Happened.ATTACHES,
        Way.HIDDEN: Happened.ATTACHES,
    }
    assert (trial.fault, trial.last_lines, trial.fails, trial.accelerator) == ("", "", False, "tcg")


def test_an_image_that_does_not_boot(lab: Lab) -> None:
    trial = lab.run("sys.exit('qemu: could not load kernel')")
    assert trial.fault == "the guest ended in its boot"
    assert trial.last_lines == "qemu: could not load kernel"
    assert trial.fails


def test_a_boot_is_tried_again_under_emulation(lab: Lab) -> None:
    count = lab.folder / "count"
    once = f"n = os.path.exists({str(count)!r}); open({str(count)!r}, 'w')\nif not n: sys.exit('died')\n"
    assert not lab.run(once + UP + "load()" + DONE).fails


def test_an_image_of_another_architecture(lab: Lab) -> None:
    lab.image.write_bytes(fake_qemu.arm64_image())
    assert "this image is of arm64, and debian/12/x86_64/6.1.0-9-amd64 is of x86_64" in lab.run("").fault


def test_a_file_that_is_no_image(lab: Lab) -> None:
    lab.image.write_bytes(b"not a kernel")
    assert "this is no image that boots: name a vmlinuz, or the package that has it" in lab.run("").fault


def test_an_image_of_another_release(lab: Lab) -> None:
    trial = lab.run(UP.replace("-9-", "-10-") + "load()" + DONE)
    assert trial.fault == "the image is of 6.1.0-10-amd64, not of 6.1.0-9-amd64: put the right one there"


def test_a_kernel_without_initramfs(lab: Lab) -> None:
    trial = lab.run("print('[ 2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)')")
    assert "it does not take an initramfs (CONFIG_BLK_DEV_INITRD)" in trial.fault
    assert "Unable to mount root fs" in trial.last_lines


def test_a_guest_out_of_memory(lab: Lab) -> None:
    for body in ("print('Out of memory: Killed process 70 (python3)')", "say(done=True, oom=1)"):
        assert lab.run(UP + body).fault == "the guest ran out of its 512 MB of memory: give it more with --memory"


def test_a_panic_names_the_program_that_was_loaded(lab: Lab) -> None:
    begins = "say(way='own', object='prog.bpf.o', program='one', begins=True)\n"
    trial = lab.run(UP + begins + "print('[ 9.0] Kernel panic - not syncing: Fatal exception in interrupt')")
    assert trial.fault == "the kernel panicked while it loaded one of prog.bpf.o: Fatal exception in interrupt"
    assert trial.programs[0].attempts[Way.OWN].happened is Happened.LOST
    assert trial.fails


def test_a_hang(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = lab.folder / "hangs"
    monkeypatch.setattr(machine, "time", _Later(hangs))
    trial = lab.run(UP + f"print('[ 9.0] a line of the kernel', flush=True)\nopen({str(hangs)!r}, 'w')\ntime.sleep(60)")
    assert (
        trial.fault
        == "the guest was stopped in its work: it was not done after 60 seconds: give it more with --timeout"
    )
    assert trial.last_lines.endswith("[ 9.0] a line of the kernel")


class _Later:
    """The module `time`, an hour later once a file is there and all that was said before it was read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = 0

    def monotonic(self) -> float:
        self._seen += self._file.exists()
        return time.monotonic() + (3600 if self._seen > 2 else 0)


def test_a_guest_that_is_done_and_cannot_switch_itself_off(lab: Lab) -> None:
    trial = lab.run(UP + "load()" + DONE + "\ntime.sleep(60)")
    assert (trial.fault, trial.fails) == ("", False)
    assert trial.seconds < 50


def test_a_command_that_is_not_in_the_guest(lab: Lab) -> None:
    missing = "say(command='begins')\nsay(command='not started', error='No such file or directory')"
    trial = lab.run(UP + "load()\n" + missing + DONE, command=("nothing-like-it",))
    assert trial.command is not None
    assert trial.command.fault == "nothing-like-it is not in the guest, or cannot run there: No such file or directory"
    assert trial.fails


def test_the_configuration_is_where_libbpf_reads_it(lab: Lab) -> None:
    looks = UP + "there = b'boot/config-6.1.0-9-amd64\\0' in initramfs and b'CONFIG_HZ=250\\n' in initramfs\n"
    looks += "load('loads' if there else 'refused')" + DONE
    without = lab.run(looks)
    path = lab.folder / "config"
    path.write_text("CONFIG_HZ=250\n")
    lab.configs = {KERNEL: ConfigFile(path, None)}
    trial = lab.run(looks)
    assert [(found.fails, found.programs[0].has_config) for found in (without, trial)] == [(True, False), (False, True)]


def test_a_configuration_that_is_not_the_locked_one(lab: Lab) -> None:
    path = lab.folder / "config"
    path.write_text("CONFIG_HZ=250\n")
    lab.configs = {KERNEL: ConfigFile(path, "0" * 64)}
    assert "config: this configuration of debian/12/x86_64/6.1.0-9-amd64 is not the one" in lab.run("").fault


def test_nothing_is_left(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    place = lab.folder / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    lab.run(UP + DONE)
    assert list(place.iterdir()) == []


def test_without_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        LabError, match="qemu-system-x86_64, which boots kernels of x86_64, is not installed: apt install"
    ):
        machine.find_qemu("x86_64")


def test_kvm_that_does_not_boot_gives_way_to_emulation(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_kvm", lambda _: True)
    trial = lab.run("if 'kvm' in sys.argv: sys.exit('failed to set MSR')\n" + UP + "load()" + DONE)
    assert (trial.accelerator, trial.fails) == ("tcg", False)


def test_parameters_reach_the_kernel(lab: Lab) -> None:
    """The last argument is the kernel's command line."""
    assert not lab.run("if 'lsm=capability,bpf' not in sys.argv[-1]: sys.exit()\n" + UP + "load()" + DONE).fails


def test_a_qemu_that_is_killed(lab: Lab) -> None:
    trial = lab.run(UP + "os.kill(os.getpid(), 9)")
    assert trial.fault == "the guest was stopped in its work: SIGKILL ended qemu"


def test_a_boot_that_takes_too_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "BOOT_SECONDS", {"tcg": 0.1})
    assert lab.run("time.sleep(60)").fault == "the guest was stopped in its boot: it was not up after 0 seconds"


def test_a_flood_on_the_console_is_stopped(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CONSOLE_BYTES", 2 << 20)
    begins = "say(command='begins')\n"
    trial = lab.run(UP + begins + "while True: print('x' * 65536)", command=("flood", "a b"))
    assert trial.fault == "the guest was stopped while flood 'a b' ran: it wrote more than 2 MB on its console"
    assert trial.last_lines.endswith(f"\n{'x' * 400}...")


def test_a_full_disk(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that nothing more fits in stands for it."""
    monkeypatch.setattr(Path, "with_suffix", lambda *_: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **_more: None)
    fault = lab.run("").fault
    assert fault.startswith("the guest's files cannot be in /")
    assert fault.endswith(": No space left on device; make room there, or set TMPDIR")
