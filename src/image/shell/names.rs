//! Which shell it is, and the names that a shell knows without a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Executable;

/// Which shell it is: they differ in what they read and in what they carry out themselves.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Shell {
    /// ash of busybox.
    Busybox,
    /// dash.
    Dash,
    /// bash.
    Bash,
    /// Another that reads the language of POSIX: what not all shells do alike is not known of it.
    Other,
}

/// What a shell's own file shows of it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShellFile {
    /// Which shell it is.
    pub kind: Shell,
    /// True where it knows `set -o pipefail`.
    pub pipefail: bool,
}

/// Texts in the files of shells, and whether each stands there.
const MARKS: [&[u8]; 5] = [
    b"BusyBox",
    b"GNU bash",
    b"Illegal option -%c",
    b"nolog",
    b"pipefail",
];
/// Bytes of the longest mark.
const LONGEST: usize = 18;

/// Bytes of a file that are looked into: no shell is larger.
const MOST: usize = 32 << 20;

/// Looks for a shell's marks in a file that streams by.
#[derive(Default)]
pub(crate) struct Marks {
    seen: usize,
    tail: Vec<u8>,
    found: [bool; MARKS.len()],
}

impl Marks {
    /// The next bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if self.seen > MOST {
            return;
        }
        self.seen += bytes.len();
        self.tail.extend_from_slice(bytes);
        for (mark, found) in MARKS.iter().zip(&mut self.found) {
            *found |= self.tail.windows(mark.len()).any(|part| part == *mark);
        }
        let old = self.tail.len().saturating_sub(LONGEST - 1);
        self.tail.drain(..old);
    }

    /// Which shell it was.
    pub(crate) fn shell(&self) -> ShellFile {
        let kind = match self.found {
            [true, ..] => Shell::Busybox,
            [_, true, ..] => Shell::Bash,
            [_, _, true, true, _] => Shell::Dash,
            _ => Shell::Other,
        };
        ShellFile {
            kind,
            pipefail: self.found[4],
        }
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// True for the names of files that are looked into for which shell they are: shells, and the first names of
/// busybox where all of them are hard links.
pub(crate) fn may_be_shell(name: &str) -> bool {
    is_shell(name) || name.starts_with("busybox") || matches!(name, "[" | "[[" | "toybox")
}

impl Shell {
    /// The shell that a program is; none where it is no shell of POSIX.
    pub fn of(program: &Executable) -> Option<Self> {
        let by_name = |path: &str| match name(path) {
            "busybox" | "busybox.static" | "bbsuid" => Some(Self::Busybox),
            "dash" => Some(Self::Dash),
            "bash" => Some(Self::Bash),
            other => is_shell(other).then_some(Self::Other),
        };
        // busybox is a shell by the name alone that it is called by.
        let called = name(&program.path);
        if !is_shell(called) {
            return None;
        }
        let file = by_name(program.file.as_deref().unwrap_or(&program.path));
        match program.shell.map(|shell| shell.kind) {
            Some(Self::Other) | None => file,
            known => known,
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Dash => "dash",
            Self::Bash => "bash",
            Self::Other => "an unknown shell",
        }
    }
}

/// True for a name by which shells are called.
pub fn is_shell(name: &str) -> bool {
    matches!(
        name,
        "sh" | "ash" | "bash" | "dash" | "ksh" | "ksh93" | "mksh" | "zsh" | "yash"
    )
}

/// True for a command that a shell carries out itself; none where some shells do and this one is not known
/// (POSIX, 2.15, and what dash, ash of busybox, bash, mksh, ksh93, yash and zsh have).
pub fn is_builtin(name: &str, shell: Shell) -> Option<bool> {
    if ALL.split_ascii_whitespace().any(|known| known == name) {
        return Some(true);
    }
    let own = |names: &str| names.split_ascii_whitespace().any(|known| known == name);
    Some(match shell {
        Shell::Busybox => own(BUSYBOX),
        Shell::Dash => own(DASH),
        Shell::Bash => own(BASH),
        Shell::Other if own(BUSYBOX) || own(BASH) || own(OTHERS) => return None,
        Shell::Other => false,
    })
}

/// All that some shell carries out itself.
pub fn builtins() -> impl Iterator<Item = &'static str> {
    [ALL, DASH, BUSYBOX, BASH, OTHERS]
        .into_iter()
        .flat_map(str::split_ascii_whitespace)
}

const ALL: &str = ". : [ alias bg break cd command continue echo eval exec exit export false fg getopts hash jobs kill \
    printf pwd read readonly return set shift test times trap true type ulimit umask unalias unset wait";
const DASH: &str = "local";
const BUSYBOX: &str = "source local let help history [[ chdir";
const BASH: &str = "source local let help history builtin caller compgen complete compopt declare dirs disown \
    enable fc logout mapfile popd pushd readarray shopt suspend typeset bind";
const OTHERS: &str = "print whence integer float nameref autoload setopt unsetopt zmodload array";

/// True for an applet of busybox, whichever of them a build of it may have (busybox 1.37, `--list` of
/// a build with all of them).
pub fn is_applet(name: &str) -> bool {
    APPLETS
        .split_ascii_whitespace()
        .any(|applet| applet == name)
}

const APPLETS: &str = "[ [[ acpid add-shell addgroup adduser adjtimex ar arch arp arping ascii ash awk \
    base32 base64 basename bash bbconfig bc beep blkdiscard blkid blockdev bootchartd brctl bunzip2 bzcat \
    bzip2 cal cat catv chat chattr chcon chgrp chmod chown chpasswd chpst chroot chrt chvt cksum clear cmp \
    comm conspy cp cpio crc32 crond crontab cryptpw cttyhack cut date dc dd deallocvt delgroup deluser \
    depmod devfsd devmem df dhcprelay diff dirname dmesg dnsd dnsdomainname dos2unix dpkg dpkg-deb du \
    dumpkmap dumpleases echo ed egrep eject env envdir envuidgid ether-wake expand expr factor fakeidentd \
    fallocate false fatattr fbset fbsplash fdflush fdformat fdisk fgconsole fgrep find findfs flash_eraseall \
    flash_lock flash_unlock flashcp flock fold free freeramdisk fsck fsck.minix fsfreeze fstrim fsync ftpd \
    ftpget ftpput fuser getenforce getfattr getopt getsebool getty grep groups gunzip gzip halt hd hdparm \
    head hexdump hexedit hostid hostname httpd hush hwclock i2cdetect i2cdump i2cget i2cset i2ctransfer id \
    ifconfig ifdown ifenslave ifplugd ifup inetd init inotifyd insmod install ionice iostat ip ipaddr \
    ipcalc ipcrm ipcs iplink ipneigh iproute iprule iptunnel kbd_mode kill killall killall5 klogd last less \
    linux32 linux64 linuxrc ln load_policy loadfont loadkmap logger login logname logread losetup lpd lpq \
    lpr ls lsattr lsmod lsof lspci lsscsi lsusb lzcat lzma lzop lzopcat makedevs makemime man matchpathcon \
    md5sum mdev mesg microcom mim minips mkdir mkdosfs mke2fs mkfifo mkfs.ext2 mkfs.minix mkfs.reiser \
    mkfs.vfat mknod mkpasswd mkswap mktemp modinfo modprobe more mount mountpoint mpstat msh mt mv nameif \
    nanddump nandwrite nbd-client nc netcat netstat nice nl nmeter nohup nologin nproc nsenter nslookup \
    ntpd nuke od openvt partprobe passwd paste patch pgrep pidof ping ping6 pipe_progress pivot_root pkill \
    pmap popmaildir poweroff powertop printenv printf ps pscan pstree pwd pwdx raidautorun rdate rdev \
    readahead readlink readprofile realpath reboot reformime remove-shell renice reset resize restorecon \
    resume rev rfkill rm rmdir rmmod route rpm rpm2cpio rtcwake run-init run-parts runcon runlevel runsv \
    runsvdir rx script scriptreplay sed seedrng selinuxenabled sendmail seq sestatus setarch setconsole \
    setenforce setfattr setfiles setfont setkeycodes setlogcons setpriv setsebool setserial setsid \
    setuidgid sh sha1sum sha256sum sha384sum sha3sum sha512sum showkey shred shuf slattach sleep smemcap \
    softlimit sort split ssl_client ssl_server start-stop-daemon stat strings stty su sulogin sum sv svc \
    svlogd svok swapoff swapon switch_root sync sysctl syslogd tac tail tar taskset tc tcpsvd tee telnet \
    telnetd test tftp tftpd time timeout top touch tr traceroute traceroute6 tree true truncate ts tsort tty \
    ttysize tune2fs tunctl tunefs ubiattach ubidetach ubimkvol ubirename ubirmvol ubirsvol ubiupdatevol \
    udhcpc udhcpc6 udhcpd udpsvd uevent umount uname uncompress unexpand uniq unit unix2dos unlink unlzma \
    unlzop unshare unxz unzip uptime users usleep uudecode uuencode vconfig vi vlock volname w wall watch \
    watchdog wc wget which who whoami whois xargs xxd xz xzcat yes zcat zcip";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_known_by_its_file_and_by_what_that_holds() {
        let of = |path: &str, file: Option<&str>, holds: Option<Shell>| {
            Shell::of(&Executable {
                path: path.into(),
                file: file.map(str::to_owned),
                shell: holds.map(|kind| ShellFile {
                    kind,
                    pipefail: true,
                }),
                ..Executable::default()
            })
        };
        let named = |path: &str, file: Option<&str>| of(path, file, None);
        assert_eq!(named("/bin/sh", Some("/bin/busybox")), Some(Shell::Busybox));
        assert_eq!(
            named("/usr/bin/sh", Some("/usr/bin/dash")),
            Some(Shell::Dash)
        );
        assert_eq!(named("/bin/bash", None), Some(Shell::Bash));
        assert_eq!(named("/bin/sh", None), Some(Shell::Other));
        assert_eq!(named("/bin/busybox", None), None);
        assert_eq!(named("/bin/wget", Some("/bin/busybox")), None);
        assert_eq!(named("/bin/sh", Some("/bin/toybox")), None);
        assert_eq!(named("/usr/bin/fish", None), None);
        // Copies and hard links have no other name.
        for kind in [Shell::Busybox, Shell::Dash, Shell::Bash] {
            assert_eq!(of("/bin/sh", None, Some(kind)), Some(kind));
            assert_eq!(of("/bin/sh", Some("/opt/x"), Some(kind)), Some(kind));
        }
        assert_eq!(of("/bin/sh", None, Some(Shell::Other)), Some(Shell::Other));
        assert_eq!(of("/bin/[", None, Some(Shell::Busybox)), None);
    }

    #[test]
    fn marks_are_found_wherever_the_pieces_of_a_file_end() {
        let of = |text: &[u8], size: usize| {
            let mut marks = Marks::default();
            text.chunks(size).for_each(|part| marks.add(part));
            marks.shell()
        };
        let dash = b"....Illegal option -%c\0nolog\0debug......";
        for size in 1..dash.len() {
            assert_eq!(of(dash, size).kind, Shell::Dash, "{size}");
            assert!(!of(dash, size).pipefail);
        }
        let new = [&dash[..], b"pipefail\0"].concat();
        assert_eq!(
            (of(&new, 7).kind, of(&new, 7).pipefail),
            (Shell::Dash, true)
        );
        assert_eq!(of(b"GNU bash, version 5.2 pipefail", 4).kind, Shell::Bash);
        assert_eq!(
            of(b"BusyBox v1.36 Illegal option -%c nolog", 9).kind,
            Shell::Busybox
        );
        assert_eq!(of(b"@(#)MIRBSD KSH pipefail", 9).kind, Shell::Other);
        assert!(MARKS.iter().all(|mark| mark.len() <= LONGEST));
    }

    #[test]
    fn what_only_some_shells_carry_out_is_not_known_of_another() {
        for (name, busybox, dash, bash, other) in [
            ("cd", Some(true), Some(true), Some(true), Some(true)),
            ("source", Some(true), Some(false), Some(true), None),
            ("let", Some(true), Some(false), Some(true), None),
            ("pushd", Some(false), Some(false), Some(true), None),
            ("print", Some(false), Some(false), Some(false), None),
            ("curl", Some(false), Some(false), Some(false), Some(false)),
        ] {
            let all = [Shell::Busybox, Shell::Dash, Shell::Bash, Shell::Other]
                .map(|shell| is_builtin(name, shell));
            assert_eq!(all, [busybox, dash, bash, other], "{name}");
        }
    }

    #[test]
    fn applets_are_known_by_name() {
        assert!(is_applet("wget") && is_applet("sh") && is_applet("["));
        assert!(!is_applet("curl") && !is_applet(""));
    }
}
