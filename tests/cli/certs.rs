//! `couplet cert`: what it shows, what it takes over, and what it refuses.

use super::{CONFIG, Folder};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A certificate authority that issues what it is asked for.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Friar Laurence R3");
        Self(Issuer::new(params, KeyPair::generate().unwrap()))
    }

    /// Certificate and key in PEM.
    fn issue(&self, names: &[&str], until_year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|s| s.to_string()).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Leaves them as certbot does, with links into its archive.
    fn certbot(&self, root: &Path, name: &str, names: &[&str], until_year: i32) -> PathBuf {
        let (archive, live) = (root.join("archive").join(name), root.join("live").join(name));
        fs::create_dir_all(&archive).unwrap();
        fs::create_dir_all(&live).unwrap();
        let (cert, key) = self.issue(names, until_year);
        for (file, text) in [("fullchain", cert), ("privkey", key)] {
            let _ = fs::remove_file(live.join(format!("{file}.pem")));
            fs::write(archive.join(format!("{file}1.pem")), text).unwrap();
            symlink(format!("../../archive/{name}/{file}1.pem"), live.join(format!("{file}.pem"))).unwrap();
        }
        fs::write(root.join("live/README"), "not a certificate").unwrap();
        live
    }
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("couplet.toml", &format!("hosts = [\"a.example\", \"b.example\"]\n{CONFIG}"));
    folder
}

fn imported(folder: &Folder, args: &[&str]) -> (i32, String, String) {
    let ran = folder.run(&[&["cert", "import"][..], args].concat());
    (ran.code, ran.out.replace(&folder.0.display().to_string(), "F"), ran.err)
}

#[test]
fn what_certbot_has_is_taken_over() {
    let (folder, authority) = (folder(), Authority::new());
    let none = folder.run(&["cert", "list"]);
    assert_eq!(none.out.matches("none; a self-signed one is made").count(), 2, "{none:?}");
    let server = folder.serve();
    let list = folder.run(&["cert", "list"]).out;
    assert!(
        list.contains("issuer  itself: clients ask") && list.contains("couplet-data/certs/a.example.crt"),
        "{list}"
    );
    assert_eq!(server.stop().code, 0);

    let root = folder.0.join("letsencrypt");
    authority.certbot(&root, "a.example", &["a.example", "conference.a.example"], 2999);
    authority.certbot(&root, "b.example-0001", &["b.example"], 2998);
    authority.certbot(&root, "c.example", &["c.example"], 2999);
    let (code, out, err) = imported(&folder, &["letsencrypt"]);
    // The third is not served here.
    assert!(code == 1 && err.contains("it is for c.example, and none of that is served here; have one"), "{err}");
    assert!(out.contains("F/couplet-data/certs/a.example.pem: valid until 2999-01-01T00:00:00Z\n"), "{out}");
    assert!(out.contains("F/couplet-data/certs/b.example.pem: valid until 2998-01-01T00:00:00Z\n"), "{out}");
    let file = folder.0.join("couplet-data/certs/a.example.pem");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let list = folder.run(&["cert", "list"]);
    assert_eq!(list.err, "");
    for part in [
        "names   a.example, conference.a.example\n",
        "valid   2020-01-01 to 2999-01-01, ",
        "days left\n",
        "issuer  Friar Laurence R3\n",
        "  SHA-256 ",
    ] {
        assert!(list.out.contains(part), "{part}: {}", list.out);
    }
    // One of a self-signed certificate that lasts longer is not in its way; one of the same kind is.
    let before = fs::read(&file).unwrap();
    let live = authority.certbot(&root, "a.example", &["a.example"], 2990);
    let (code, _, err) = imported(&folder, &[live.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""), "a renewal");
    assert!(fs::read(&file).unwrap() != before);
    let check = folder.run(&["check"]);
    assert!(check.code == 0 && check.out.contains("ok    certificate: a.example\n"), "{check:?}");
    assert_eq!(folder.serve().stop().code, 0);
}

#[test]
fn single_files_are_taken_over() {
    let (folder, authority) = (folder(), Authority::new());
    let (cert, key) = authority.issue(&["*.example"], 2999);
    folder.write("one.pem", &format!("a text in front\n{key}{cert}"));
    let (code, out, err) = imported(&folder, &["one.pem"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("certs/a.example.pem") && out.contains("certs/b.example.pem"), "{out}");
    let text = fs::read_to_string(folder.0.join("couplet-data/certs/b.example.pem")).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n") && !text.contains("in front"));
    folder.write("two.crt", &cert);
    folder.write("two.key", &key);
    assert_eq!(imported(&folder, &["two.crt"]).0, 0, "the key lies beside it");
    folder.write("secret", &key);
    assert_eq!(imported(&folder, &["two.crt", "secret"]).0, 0);
    // Another file names the host just as well, and lasts longer.
    let (longer, its_key) = authority.issue(&["a.example"], 3000);
    folder.write("couplet-data/certs/a.example.crt", &longer);
    folder.write("couplet-data/certs/a.example.key", &its_key);
    let (code, _, err) = imported(&folder, &["two.crt"]);
    assert!(code == 0 && err.contains("certs/a.example.crt stays in force: it lasts longer"), "{err}");
}

#[test]
fn what_cannot_be_used_is_refused_and_nothing_is_written() {
    let (folder, authority) = (folder(), Authority::new());
    let (cert, key) = authority.issue(&["a.example"], 2999);
    let (_, other_key) = authority.issue(&["a.example"], 2999);
    let (expired, its_key) = authority.issue(&["a.example"], 2021);
    folder.write("a.crt", &cert);
    folder.write("a.pem", &format!("{cert}{other_key}"));
    folder.write("old.pem", &format!("{expired}{its_key}"));
    folder.write("key.pem", &key);
    folder.write("cut.pem", &format!("{}{key}", &cert[..cert.len() / 2]));
    fs::create_dir(folder.0.join("empty")).unwrap();
    for (path, told) in [
        ("a.crt", "there is no private key for this certificate; put the key into "),
        ("a.pem", "this key does not belong to the certificate"),
        ("old.pem", "expired on 2021-01-01T00:00:00Z; renew it (certbot renew), then import it"),
        ("key.pem", "there is no certificate in it; put the certificate there in PEM form"),
        ("cut.pem", "the "),
        ("empty", "neither fullchain.pem with privkey.pem nor folders that have them are in it; name the file"),
        ("nowhere", "cannot read the file"),
    ] {
        let (code, out, err) = imported(&folder, &[path]);
        assert!(code == 1 && out.is_empty() && err.contains(told), "{path}: {err}");
    }
    let written = fs::read_dir(folder.0.join("couplet-data/certs")).map_or(0, Iterator::count);
    assert_eq!(written, 0);
}

#[cfg(feature = "acme")]
#[test]
fn certificates_by_themselves_need_a_server_that_gets_them() {
    let folder = folder();
    let renew = |args: &[&str]| folder.run(&[&["cert", "renew"][..], args].concat());
    assert_eq!(renew(&[]).code, 3, "no server runs");
    let unknown = renew(&["c.example"]);
    assert!(unknown.code == 1 && unknown.err.starts_with("c.example is not served here; hosts are: a.example, b.ex"));
    let server = folder.serve();
    let off = renew(&["a.example"]);
    assert!(off.code == 1 && off.err.contains("set acme.enabled = true, then run couplet reload"), "{off:?}");
    assert_eq!(server.stop().code, 0);
    // Nobody answers there, and there is no list of authorities: it serves all the same.
    let acme = "[acme]\nenabled = true\ndirectory = \"https://127.0.0.1:9/dir\"\nca = \"couplet.toml\"\n";
    folder.write("couplet.toml", &format!("hosts = [\"a.example\", \"b.example\"]\n{CONFIG}{acme}"));
    let check = folder.run(&["check"]);
    for line in [
        "ok    acme: b.example gets a certificate for b.example\n",
        "warn  acme: terms_agreed is false: ",
        "FAIL  acme: ",
        "ok    acme: authorities connect to port 443: forward it to one of ",
    ] {
        assert!(check.code == 1 && check.out.contains(line), "{line}: {}", check.out);
    }
    let server = folder.serve();
    let refused = renew(&["b.example"]);
    let why = "b.example: the authority cannot be reached at https://127.0.0.1:9/dir: ";
    assert!(refused.code == 1 && refused.err.starts_with(why), "{refused:?}");
    let status = folder.run(&["status"]).out;
    assert!(status.contains(&format!("certificate of {why}")) && status.contains(", next attempt 2"), "{status}");
    assert!(folder.run(&["cert", "list"]).out.contains("  renewal the authority cannot be reached"));
    assert_eq!(server.stop().code, 0);
}
