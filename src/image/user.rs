//! As whom a container runs, and what that user may do.

use super::config::ImageConfig;
use super::facts::Fact;
use super::layer::Image;
use super::tree::{Kind, Meta, NodeId};

/// As whom a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User ID; `None` where the image names a user that it does not have.
    pub uid: Option<u32>,
    /// Group ID.
    pub gid: u32,
    /// Other groups.
    pub groups: Vec<u32>,
    /// True where USER is a number (or is not set).
    pub numeric: bool,
    /// The user's line of /etc/passwd, where it has one.
    pub passwd: Option<Passwd>,
    /// The name of a user that the image does not have.
    pub unknown: Option<String>,
    /// True for whoever it may be: what owner, group and others are all allowed, and nothing else.
    pub anyone: bool,
}

/// One line of /etc/passwd (passwd(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwd {
    /// Name.
    pub name: String,
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

impl Identity {
    /// The identity that Kubernetes takes from USER (`user`, `uid`; empty: root), with /etc/passwd and
    /// /etc/group of the image. The group of `user:group` counts for nothing: the CRI hands the user on
    /// alone, and the group is that of /etc/passwd, else 0
    /// (<https://github.com/kubernetes/kubernetes/issues/61967>;
    /// <https://github.com/moby/sys/blob/user/v0.4.0/user/user.go>, GetExecUser).
    pub fn of(image: &Image, config: &ImageConfig) -> Self {
        let files = ["/etc/passwd", "/etc/group"].map(|path| text(image, path));
        Self::by(&config.user, &files[0], &files[1])
    }

    /// The same of the texts of both files.
    pub fn by(configured: &str, passwd: &str, group: &str) -> Self {
        let users: Vec<Passwd> = passwd.lines().filter_map(user).collect();
        let name = configured.split(':').next().unwrap_or_default();
        let number = if name.is_empty() {
            Some(0)
        } else {
            name.parse().ok()
        };
        let entry = users
            .iter()
            .find(|user| {
                user.name == name
                    || (number == Some(user.uid) && !name.is_empty())
                    || (name.is_empty() && user.uid == 0)
            })
            .cloned();
        let uid = entry.as_ref().map(|user| user.uid).or(number);
        let groups = match &entry {
            Some(user) => group
                .lines()
                .filter_map(members)
                .filter(|(_, members)| members.split(',').any(|name| name == user.name))
                .map(|(gid, _)| gid)
                .take(64)
                .collect(),
            None => Vec::new(),
        };
        Self {
            uid,
            gid: entry.as_ref().map_or(0, |user| user.gid),
            groups,
            numeric: number.is_some(),
            unknown: uid.is_none().then(|| name.to_owned()),
            passwd: entry,
            anyone: false,
        }
    }

    /// Whoever it may be: has just those rights that every user has.
    pub fn anyone() -> Self {
        Self {
            anyone: true,
            ..Self::default()
        }
    }

    /// True where the container runs as root.
    pub fn is_root(&self) -> bool {
        self.uid == Some(0)
    }

    fn may(&self, meta: &Meta, bit: u16) -> bool {
        if self.anyone {
            return meta.mode & (meta.mode >> 3) & (meta.mode >> 6) & bit != 0;
        }
        if self.is_root() || self.uid.is_none() {
            // Root may read and write all, but runs only what somebody may run.
            return bit != 1 || meta.kind == Kind::Directory || meta.mode & 0o111 != 0;
        }
        let shift = if Some(meta.uid) == self.uid {
            6
        } else if meta.gid == self.gid || self.groups.contains(&meta.gid) {
            3
        } else {
            0
        };
        meta.mode >> shift & bit != 0
    }

    /// True where this user may run a file, as far as its own permissions go.
    pub fn may_run(&self, meta: &Meta) -> bool {
        self.may(meta, 1)
    }

    /// True where this user may read a file.
    pub fn may_read(&self, meta: &Meta) -> bool {
        self.may(meta, 4)
    }

    /// True where this user may read a file at its place.
    pub fn reads(&self, image: &Image, id: NodeId) -> bool {
        self.may_read(&image.tree.meta(id)) && self.barred(image, id).is_none()
    }

    /// True where a program gives this user rights that it does not have: setuid, setgid or capabilities
    /// (`AT_SECURE` of getauxval(3)).
    pub fn gains_rights(&self, image: &Image, program: NodeId) -> bool {
        let meta = image.tree.meta(program);
        let setuid =
            meta.mode & 0o4000 != 0 && (self.anyone || self.uid.is_some_and(|uid| uid != meta.uid));
        let setgid = meta.mode & 0o2010 == 0o2010 && (self.anyone || self.gid != meta.gid);
        setuid || setgid || !self.is_root() && image.capability(program).is_some()
    }

    /// True where this user may make files in a directory.
    pub fn may_write_into(&self, meta: &Meta) -> bool {
        meta.kind == Kind::Directory && self.may(meta, 2) && self.may(meta, 1)
    }

    /// The first directory above an entry that this user may not pass.
    pub fn barred(&self, image: &Image, id: NodeId) -> Option<NodeId> {
        let mut at = id;
        let mut barred = None;
        while at != image.tree.root() {
            at = image.tree.parent(at);
            if !self.may(&image.tree.meta(at), 1) {
                barred = Some(at);
            }
        }
        barred
    }
}

/// The text of a file that is kept whole; empty where there is none.
pub(super) fn text(image: &Image, path: &str) -> String {
    let fact = image.tree.find(path).ok().and_then(|id| image.fact(id));
    match fact {
        Some(Fact::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

fn user(line: &str) -> Option<Passwd> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).unwrap_or_default();
    let shell = fields.next().unwrap_or_default();
    Some(Passwd {
        name: name.into(),
        uid,
        gid,
        home: home.into(),
        shell: shell.into(),
    })
}

/// Number and members of a group (group(5)).
fn members(line: &str) -> Option<(u32, &str)> {
    let mut fields = line.trim().split(':');
    let gid = fields.nth(2)?.parse().ok()?;
    Some((gid, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{Tar, image};

    fn identity(user: &str) -> Identity {
        let image = image(&[Tar::new()
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/home/app:/sbin/nologin\n",
            )
            .file("etc/group", 0o644, b"root:x:0:\nstaff:x:50:app,other\n")
            .bytes()]);
        let config = ImageConfig {
            user: user.into(),
            ..ImageConfig::default()
        };
        Identity::of(&image, &config)
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        for (user, uid, gid, numeric) in [
            ("", Some(0), 0, true),
            ("root", Some(0), 0, false),
            ("app", Some(1000), 1001, false),
            ("1000", Some(1000), 1001, true),
            ("65532", Some(65532), 0, true),
            ("65532:50", Some(65532), 0, true),
            ("app:staff", Some(1000), 1001, false),
            ("app:web", Some(1000), 1001, false),
            ("nobody", None, 0, false),
        ] {
            let found = identity(user);
            assert_eq!(
                (found.uid, found.gid, found.numeric),
                (uid, gid, numeric),
                "{user}"
            );
        }
        assert_eq!(identity("app").groups, [50]);
        assert_eq!(identity("nobody:staff").unknown.as_deref(), Some("nobody"));
        assert_eq!(identity("1:web").unknown, None);
        assert_eq!(identity("app").passwd.unwrap().home, "/home/app");
    }

    #[test]
    fn anyone_may_what_owner_group_and_others_all_may() {
        let image = image(&[Tar::new()
            .folder("locked", 0o750)
            .file("locked/app", 0o755, b"x")
            .file("odd", 0o705, b"x")
            .file("all", 0o755, b"x")
            .bytes()]);
        let meta = |path: &str| image.tree.meta(image.tree.find(path).unwrap());
        let anyone = Identity::anyone();
        assert!(anyone.may_run(&meta("/all")) && !anyone.may_run(&meta("/odd")));
        let inside = image.tree.find("/locked/app").unwrap();
        assert_eq!(
            anyone.barred(&image, inside),
            image.tree.find("/locked").ok()
        );
    }

    #[test]
    fn permissions_are_those_of_owner_group_and_others() {
        let image = image(&[Tar::new()
            .folder("locked", 0o700)
            .file("locked/app", 0o755, b"x")
            .owned("mine", 0o500, 1000, b"x")
            .file("data", 0o644, b"x")
            .folder("tmp", 0o1777)
            .bytes()]);
        let meta = |path: &str| image.tree.meta(image.tree.find(path).unwrap());
        let (root, app) = (identity(""), identity("app"));
        assert!(app.may_run(&meta("/mine")) && app.may_read(&meta("/data")));
        assert!(!app.may_run(&meta("/data")) && !root.may_run(&meta("/data")));
        assert!(app.may_write_into(&meta("/tmp")) && !app.may_write_into(&meta("/locked")));
        let inside = image.tree.find("/locked/app").unwrap();
        assert_eq!(app.barred(&image, inside), image.tree.find("/locked").ok());
        assert_eq!(root.barred(&image, inside), None);
    }
}
