use super::*;

/// Settings of one Pod.
type Settings<'a> = &'a [(&'a str, &'a str)];

fn read(accounts: &str, settings: Settings<'_>) -> Result<Asked, String> {
    let settings = settings.iter().map(|(name, value)| (full(name), (*value).to_owned()));
    let others = [("example.com/proxy-upstream", "x"), ("oauth-operator.dev/injected", "x")];
    let others = others.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Asked::read(accounts, &settings.chain(others).collect::<BTreeMap<_, _>>())
}

#[test]
fn accounts_are_named_with_or_without_their_secret() {
    let accounts = |text: &str| {
        let asked = read(text, &[(UPSTREAM, "https://api.example.com")])?;
        let shown = asked.accounts.into_iter().map(|account| (account.name, account.secret.unwrap_or_default()));
        Ok::<_, String>(shown.map(|(name, secret)| format!("{name}={secret}")).collect::<Vec<_>>().join(" "))
    };
    let many = |count: usize| (0..count).map(|number| format!("a{number}")).collect::<Vec<_>>().join(",");
    for (text, expected) in [("coze-prod", "coze-prod="), (" a , b.c=secret-of-b ", "a= b.c=secret-of-b"), ("a=a", "a=a")] {
        assert_eq!(accounts(text).as_deref(), Ok(expected), "{text}");
    }
    assert!(accounts(&many(16)).is_ok());
    for (text, why) in [
        ("", "has the entry \"\""),
        ("a,,b", "has the entry \"\""),
        ("a,", "has the entry \"\""),
        ("Coze", "has the entry \"Coze\""),
        ("a=", "has the entry \"a=\""),
        ("a=b=c", "has the entry \"a=b=c\""),
        ("../../etc", "has the entry \"../../etc\""),
        ("a b", "has the entry \"a b\""),
        ("a,b,a", "names a twice"),
        (many(17).as_str(), "names 17 accounts; 16 is the most"),
    ] {
        let error = accounts(text).unwrap_err();
        assert!(error.contains("oauth-operator.dev/inject") && error.contains(why), "{text}: {error}");
    }
}

#[test]
fn settings_are_understood() {
    let asked = read("a", &[(UPSTREAM, "https://api.example.com:443/")]).unwrap();
    let upstream = |origin: &str, ca: Option<&str>, envelope: Option<&str>, port| Destination::Upstream {
        origin: origin.into(),
        ca: ca.map(Into::into),
        envelope: envelope.map(Into::into),
        port,
    };
    assert_eq!(asked.destination, upstream("https://api.example.com", None, None, 15080));
    let all = [(UPSTREAM, "http://127.0.0.1:9000"), (UPSTREAM_CA, "ca"), (ENVELOPE, "coze"), (PORT_NAME, "8000")];
    assert_eq!(read("a", &all).unwrap().destination, upstream("http://127.0.0.1:9000", Some("ca"), Some("coze"), 8000));
    assert_eq!(read("a", &[(ROUTES, "routes")]).unwrap().destination, Destination::Routes("routes".into()));
}

#[test]
fn what_is_not_understood_is_refused_by_the_name_of_its_annotation() {
    let upstream = (UPSTREAM, "https://api.example.com");
    let cases: [(Settings<'_>, &str, &str); 24] = [
        (&[], UPSTREAM, "nothing says where it sends requests"),
        (&[("upstrem", "https://api.example.com")], "upstrem", "no annotation that is known"),
        (&[upstream, ("image", "mine")], "image", "no annotation that is known"),
        (&[(UPSTREAM, "api.example.com")], UPSTREAM, "no address"),
        (&[(UPSTREAM, "ftp://api.example.com")], UPSTREAM, "no address"),
        (&[(UPSTREAM, "https://api.example.com/v1")], UPSTREAM, "scheme, host and port alone"),
        (&[(UPSTREAM, "https://api.example.com/?a")], UPSTREAM, "scheme, host and port alone"),
        (&[(UPSTREAM, "https://me@api.example.com")], UPSTREAM, "holds a user name"),
        (&[(UPSTREAM, "http://api.example.com")], UPSTREAM, "in the open"),
        (&[upstream, (ENVELOPE, "Coze")], ENVELOPE, "one of plain, coze"),
        (&[upstream, (PORT_NAME, "80")], PORT_NAME, "from 1024"),
        (&[upstream, (PORT_NAME, "65536")], PORT_NAME, "from 1024"),
        (&[upstream, (PORT_NAME, "+8000")], PORT_NAME, "from 1024"),
        (&[upstream, (PORT_NAME, "15081")], PORT_NAME, "which the sidecar has already"),
        (&[upstream, (PORT_NAME, "15082")], PORT_NAME, "which the sidecar has already"),
        (&[upstream, (UPSTREAM_CA, "No")], UPSTREAM_CA, "no name of a ConfigMap"),
        (&[(ROUTES, "a/b")], ROUTES, "no name of a ConfigMap"),
        (&[(ROUTES, "routes"), upstream], UPSTREAM, "the routes file says that"),
        (&[(ROUTES, "routes"), (PORT_NAME, "8000")], PORT_NAME, "the routes file says that"),
        (&[upstream, (CPU_REQUEST, "0")], CPU_REQUEST, "no quantity"),
        (&[upstream, (CPU_REQUEST, "1Mi")], CPU_REQUEST, "no quantity"),
        (&[upstream, (MEMORY_LIMIT, "64MB")], MEMORY_LIMIT, "no quantity"),
        (&[upstream, (MEMORY_LIMIT, "99999999999999999999Gi")], MEMORY_LIMIT, "no quantity"),
        (&[upstream, (MEMORY_REQUEST, "64Mi"), (MEMORY_LIMIT, "63Mi")], MEMORY_REQUEST, "no request is above its limit"),
    ];
    for (settings, name, why) in cases {
        let error = read("a", settings).unwrap_err();
        assert!(error.contains(&full(name)) && error.contains(why), "{settings:?}: {error}");
    }
}

#[test]
fn requests_are_never_above_limits() {
    let cases: [(Settings<'_>, _); 8] = [
        (&[], ("20m", None, "16Mi", "128Mi")),
        (&[(CPU_REQUEST, "1")], ("1", None, "16Mi", "128Mi")),
        (&[(CPU_LIMIT, "500m")], ("20m", Some("500m"), "16Mi", "128Mi")),
        (&[(CPU_LIMIT, "10m")], ("10m", Some("10m"), "16Mi", "128Mi")),
        (&[(CPU_REQUEST, "1"), (CPU_LIMIT, "2000m")], ("1", Some("2000m"), "16Mi", "128Mi")),
        (&[(MEMORY_REQUEST, "256Mi")], ("20m", None, "256Mi", "256Mi")),
        (&[(MEMORY_LIMIT, "8M")], ("20m", None, "8M", "8M")),
        (&[(MEMORY_REQUEST, "32Mi"), (MEMORY_LIMIT, "1Gi")], ("20m", None, "32Mi", "1Gi")),
    ];
    for (settings, expected) in cases {
        let settings = [settings, &[(UPSTREAM, "https://api.example.com")]].concat();
        let found = read("a", &settings).unwrap().resources;
        let found = (&*found.cpu_request, found.cpu_limit.as_deref(), &*found.memory_request, &*found.memory_limit);
        assert_eq!(found, expected, "{settings:?}");
    }
}
