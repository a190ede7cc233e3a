//! Names that a shell knows without a file.

use crate::image::Executable;
use crate::probe::paths;

/// Which shell it is, by the file that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    /// ash of busybox.
    Busybox,
    /// dash.
    Dash,
    /// bash.
    Bash,
    /// Another that reads the language of POSIX.
    Other,
}

impl Shell {
    /// The shell that a program is; none where it is no shell of POSIX.
    pub(crate) fn of(program: &Executable) -> Option<Self> {
        let file = program.file.as_deref().unwrap_or(&program.path);
        let of = |path: &str| match paths::name(path) {
            "busybox" | "busybox.static" | "bbsuid" => Some(Self::Busybox),
            "dash" => Some(Self::Dash),
            "bash" => Some(Self::Bash),
            "sh" | "ash" | "ksh" | "ksh93" | "mksh" | "zsh" | "yash" => Some(Self::Other),
            _ => None,
        };
        // busybox is a shell by the name alone that it is called by.
        let called = of(&program.path)?;
        match (called, of(file)) {
            (_, Some(shell)) if paths::name(&program.path) != "busybox" => Some(shell),
            _ => None,
        }
    }
}

/// True for a name by which shells are called.
pub(crate) fn is_shell(name: &str) -> bool {
    matches!(
        name,
        "sh" | "ash" | "bash" | "dash" | "ksh" | "ksh93" | "mksh" | "zsh" | "yash"
    )
}

/// Commands that every shell carries out itself (POSIX, 2.15, and what dash, ash, bash, mksh and zsh share).
pub(crate) fn is_builtin(name: &str, shell: Shell) -> bool {
    let all = matches!(
        name,
        "." | "source"
            | ":"
            | "["
            | "alias"
            | "bg"
            | "break"
            | "cd"
            | "command"
            | "continue"
            | "echo"
            | "eval"
            | "exec"
            | "exit"
            | "export"
            | "false"
            | "fg"
            | "getopts"
            | "hash"
            | "jobs"
            | "kill"
            | "pwd"
            | "read"
            | "readonly"
            | "return"
            | "set"
            | "shift"
            | "test"
            | "times"
            | "trap"
            | "true"
            | "type"
            | "ulimit"
            | "umask"
            | "unalias"
            | "unset"
            | "wait"
    );
    all || match shell {
        Shell::Busybox => matches!(name, "local" | "let" | "printf" | "help" | "history"),
        Shell::Dash => matches!(name, "local" | "printf"),
        Shell::Bash => matches!(
            name,
            "local"
                | "let"
                | "printf"
                | "help"
                | "history"
                | "builtin"
                | "caller"
                | "declare"
                | "dirs"
                | "disown"
                | "enable"
                | "logout"
                | "mapfile"
                | "popd"
                | "pushd"
                | "readarray"
                | "shopt"
                | "suspend"
                | "typeset"
        ),
        Shell::Other => matches!(name, "local" | "let" | "printf" | "typeset" | "print"),
    }
}

/// True for an applet of busybox, whichever of them a build of it may have (busybox 1.37, `--list` of
/// a build with all of them).
pub(crate) fn is_applet(name: &str) -> bool {
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
    fn a_shell_is_known_by_its_file() {
        let of = |path: &str, file: Option<&str>| {
            Shell::of(&Executable {
                path: path.into(),
                file: file.map(str::to_owned),
                ..Executable::default()
            })
        };
        assert_eq!(of("/bin/sh", Some("/bin/busybox")), Some(Shell::Busybox));
        assert_eq!(of("/usr/bin/sh", Some("/usr/bin/dash")), Some(Shell::Dash));
        assert_eq!(of("/bin/bash", None), Some(Shell::Bash));
        assert_eq!(of("/bin/sh", None), Some(Shell::Other));
        assert_eq!(of("/bin/busybox", None), None);
        assert_eq!(of("/bin/wget", Some("/bin/busybox")), None);
        assert_eq!(of("/bin/sh", Some("/bin/toybox")), None);
        assert_eq!(of("/usr/bin/fish", None), None);
    }

    #[test]
    fn applets_are_known_by_name() {
        assert!(is_applet("wget") && is_applet("sh") && is_applet("["));
        assert!(!is_applet("curl") && !is_applet(""));
    }
}
