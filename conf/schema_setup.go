package conf

// The words that several rows share.
const (
	whyNoNSS    = "there is no NSS database"
	whyNoIKEv1  = "IKEv1 is not spoken"
	whyLogging  = "logging is set with --log-level and --log-format"
	whyNoCerts  = "no connection can use certificates yet"
	whyNoShunts = "the datapath keeps no bare shunts"
	whyCommand  = "it is an option of the command line"
	whyRedirect = "IKE redirection (RFC 5685) is not there yet"
)

// setupKeywords are those of "config setup", in the order of libreswan's table.
var setupKeywords = []keyword{
	{
		name: "ikev1-policy", state: NotYet, kind: kindEnum, words: []string{"accept", "reject", "drop"}, def: "drop", harmless: []string{"reject"},
		doc: "what to do with IKEv1 packets", why: "IKEv1 is not spoken: its packets are dropped",
	},
	{name: "curl-iface", state: NotYet, doc: "interface for fetching CRLs", why: whyNoCerts},
	{name: "myvendorid", state: NotYet, doc: "text of the Vendor ID payload", why: "no Vendor ID is sent"},
	{name: "plutodebug", state: NoEffect, doc: "debug output", why: whyLogging},
	{name: "logfile", state: NoEffect, doc: "log file", why: "the log goes to standard error, for systemd to keep"},
	{name: "loglimit", state: NoEffect, kind: kindBool, def: "yes", doc: "limit repeated messages", why: whyLogging},
	{name: "logtime", state: NoEffect, kind: kindBool, def: "yes", doc: "time stamps in the log file", why: whyLogging},
	{name: "logappend", state: NoEffect, kind: kindBool, def: "yes", doc: "append to the log file", why: whyLogging},
	{name: "logip", state: NotYet, kind: kindBool, def: "yes", doc: "log addresses of peers", why: "addresses of peers are logged"},
	{name: "audit-log", state: NotYet, kind: kindBool, def: "yes", always: true, harmless: []string{"no"}, doc: "Linux audit records", why: "no audit records are written"},
	{
		name: "dnssec-enable", state: NotYet, kind: kindBool, def: "yes", always: true, harmless: []string{"no"}, doc: "validate DNS answers",
		why: "the answers of the name servers of this host are taken as they are",
	},
	{name: "dnssec-rootkey-file", state: NoEffect, doc: "root key", why: "DNSSEC is not validated by ikegod itself"},
	{name: "dnssec-anchors", state: NoEffect, doc: "further trust anchors", why: "DNSSEC is not validated by ikegod itself"},
	{name: "dumpdir", state: NoEffect, doc: "directory for core dumps", why: "the service manager decides where core dumps go"},
	{name: "ipsecdir", state: NoEffect, doc: "directory of policies, passwd and certificates", why: "nothing is read from there"},
	{name: "nssdir", state: NoEffect, doc: "directory of the NSS database", why: whyNoNSS},
	{name: "exampledir", state: CommandLine, doc: "directory of sample files", why: whyCommand},
	{name: "rundir", state: CommandLine, doc: "directory of the control socket", why: "write ikegod start --rundir DIR"},
	{name: "logstderr", state: CommandLine, doc: "log to standard error", why: whyCommand},
	{name: "secretsfile", state: Implemented, def: "/etc/ipsec.secrets", doc: "file of secrets; the option --secrets has precedence"},
	{name: "statsbin", state: NotYet, doc: "program to run when a tunnel changes", why: "the program is not run"},
	{name: "uniqueids", state: Implemented, kind: kindBool, def: "yes", doc: "a newer IKE SA of the same connection and identities replaces the older, with all its Child SAs; INITIAL_CONTACT of the peer is heeded"},
	{name: "shuntlifetime", state: NoEffect, kind: kindDuration, def: "15m", doc: "life of bare shunts", why: whyNoShunts},
	{name: "global-redirect", state: NotYet, kind: kindEnum, words: []string{"no", "yes", "auto"}, def: "no", doc: "redirect in IKE_SA_INIT", why: whyRedirect},
	{name: "global-redirect-to", state: NotYet, doc: "targets of redirection", why: whyRedirect},
	{name: "crl-strict", state: NotYet, kind: kindBool, def: "no", doc: "a missing or expired CRL is fatal", why: whyNoCerts},
	{name: "crlcheckinterval", state: NotYet, kind: kindDuration, def: "0", doc: "how often to fetch CRLs", why: whyNoCerts},
	{name: "crl-timeout", state: NotYet, kind: kindDuration, def: "5s", doc: "time limit for fetching a CRL", why: whyNoCerts},
	{name: "ocsp-strict", state: NotYet, kind: kindBool, def: "no", doc: "a failure of OCSP is fatal", why: whyNoCerts},
	{name: "ocsp-enable", state: NotYet, kind: kindBool, def: "no", doc: "ask OCSP responders", why: whyNoCerts},
	{name: "ocsp-uri", state: NotYet, doc: "OCSP responder", why: whyNoCerts},
	{name: "ocsp-timeout", state: NotYet, kind: kindDuration, def: "2s", doc: "time limit of OCSP", why: whyNoCerts},
	{name: "ocsp-trustname", state: NotYet, doc: "nickname of the responder's certificate", why: whyNoCerts},
	{name: "ocsp-cache-size", state: NotYet, def: "1000", doc: "entries of the OCSP cache", why: whyNoCerts},
	{name: "ocsp-cache-min-age", state: NotYet, kind: kindDuration, def: "1h", doc: "least age of OCSP cache entries", why: whyNoCerts},
	{name: "ocsp-cache-max-age", state: NotYet, kind: kindDuration, def: "1d", doc: "greatest age of OCSP cache entries", why: whyNoCerts},
	{name: "ocsp-method", state: NotYet, kind: kindEnum, words: []string{"get", "post"}, def: "get", doc: "HTTP method of OCSP", why: whyNoCerts},
	{
		name: "seccomp", state: NotYet, kind: kindEnum, words: []string{"enabled", "disabled", "tolerant"}, def: "disabled", doc: "system call filter",
		why: "no system call filter is set; use the service manager's",
	},
	{
		name: "ddos-mode", state: Implemented, kind: kindEnum, words: []string{"auto", "busy", "unlimited"}, def: "auto",
		doc: "when to ask initiators for a cookie: above ddos-ike-threshold, always, never",
	},
	{name: "ddos-ike-threshold", state: Implemented, kind: kindNumber, max: 100_000_000, def: "25000", doc: "half-open IKE SAs above which cookies are asked for"},
	{name: "max-halfopen-ike", state: Implemented, kind: kindNumber, min: 1, max: 100_000_000, def: "50000", doc: "half-open IKE SAs above which new ones are refused"},
	{name: "ike-socket-bufsize", state: NotYet, def: "0", doc: "size of the sockets' buffers", why: "the system's sizes are used"},
	{name: "ike-socket-errqueue", state: NotYet, kind: kindBool, def: "yes", doc: "read ICMP errors from the sockets", why: "ICMP errors are hints in any case"},
	{name: "expire-lifetime", state: NotYet, kind: kindDuration, doc: "life of the kernel's ACQUIRE entries", why: "the kernel's setting is left as it is"},
	{name: "virtual-private", state: NoEffect, doc: "subnets that vhost: and vnet: allow", why: "vhost: and vnet: are refused in leftsubnet="},
	{name: "seeddev", state: NoEffect, doc: "random device", why: "randomness comes from the kernel's getrandom"},
	{name: "seedbits", state: NoEffect, doc: "bits read from seeddev", why: "randomness comes from the kernel's getrandom"},
	{name: "keep-alive", state: Implemented, kind: kindDuration, min: 1e9, max: 86400e9, def: "20s", doc: "interval of NAT keepalives, 1s to 1d"},
	{
		name: "listen-tcp", state: Implemented, kind: kindListenTCP, def: "no",
		doc: "listen on TCP (RFC 9329): yes is port 4500; or a port, or several with commas between, which libreswan does not know",
	},
	{name: "listen-udp", state: Implemented, kind: kindBool, def: "yes", doc: "listen on UDP ports 500 and 4500"},
	{name: "listen", state: Implemented, kind: kindAddr, doc: "listen on this address only"},
	{name: "protostack", state: NoEffect, def: "xfrm", doc: "kernel interface", why: "the datapath is chosen with --backend"},
	{name: "nhelpers", state: NoEffect, def: "-1", doc: "helper threads", why: "there is one worker per processor"},
	{name: "drop-oppo-null", state: NoEffect, kind: kindBool, def: "no", doc: "ignore opportunistic requests", why: "they are never answered"},
	{name: "expire-shunt-interval", state: NoEffect, kind: kindDuration, def: "20s", doc: "how often bare shunts are looked at", why: whyNoShunts},
	{
		name: "dns-resolver", state: NotYet, kind: kindEnum, words: []string{"file", "systemd"}, def: "file", doc: "how DNS servers are put in place",
		why: "DNS servers are not put in place yet",
	},
	{name: "ipsec-interface-managed", state: NotYet, kind: kindBool, def: "yes", doc: "make and remove ipsec interfaces", why: "an interface that ikegod made, it removes; one that was there, it uses and leaves"},
	{name: "nflog-all", state: NotYet, def: "0", doc: "copy all packets to an NFLOG group", why: "no packet is logged"},
	{name: "curl-timeout", alias: "crl-timeout", doc: "older name of crl-timeout"},
	{name: "xfrmlifetime", alias: "expire-lifetime", doc: "older name of expire-lifetime"},
	{name: "syslog", state: Obsolete},
	{name: "plutostderrlog", state: Obsolete},
	{name: "virtual_private", state: Obsolete, why: "write virtual-private"},
	{name: "interfaces", state: Obsolete},
	{name: "ikev1-secctx-attr-type", state: Obsolete},
	{name: "secctx-attr-type", state: Obsolete},
}
