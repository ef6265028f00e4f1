package conf

// endKeywords are those that take left or right, in the order of libreswan's table.
var endKeywords = []keyword{
	{
		name: hostKeyword, state: Implemented, kind: kindHost,
		doc: "host: an address, %any, %any4, %any6, %defaultroute, or a DNS name, which is looked up for each attempt; one of the two must be this host",
	},
	{
		name: "subnets", state: Implemented, append: true, kind: kindSubnets,
		doc: "several subnets, a Child SA for each pair of a left and a right one, named NAME/1x2; leftsubnet= beside it, or the host without, counts as number 0",
	},
	{name: "subnet", state: Implemented, kind: kindSubnets, doc: "what is behind the host: network, address or range[/protocol[/port]], several with commas between; without it the host alone"},
	{name: "sourceip", state: Implemented, kind: kindAddrs, doc: "source address of this host's own packets into the tunnel"},
	{
		name: "ikeport", state: Implemented, kind: kindNumber, max: 65535, def: "0",
		doc: "port of this end for IKE and ESP, beside 500 and 4500; not 500, and 0 for none. At this host it is opened for the connections that name it, over UDP and, with " +
			"listen-tcp=, over TCP, and only they answer there. At the peer it is where the first message goes. Over UDP such a connection starts with the other end's 4500, " +
			"if that has no port of its own, always has the non-ESP marker, and puts ESP into UDP unless encapsulation=no",
	},
	{name: "interface-ip", state: Implemented, kind: kindCIDR, doc: "address of this end on the ipsec interface; without it that of sourceip="},
	{name: "vti", state: NotYet, doc: "address of the VTI device", why: whyVTI},
	{name: "nexthop", state: NoEffect, def: "%direct", doc: "next hop towards the peer", why: "the system's routes decide"},
	{
		name: "updown", state: Implemented, def: "built in",
		doc: "command that this host runs with /bin/sh when a tunnel changes, see UPDOWN; ikegod needs none: the empty value, %disabled and ipsec _updown stand for no script",
	},
	{name: "updown-config", state: NotYet, doc: "how the script is run: exec, async", why: "/bin/sh runs it, and a Child SA is up when it has ended"},
	{name: "id", state: Implemented, kind: kindID, doc: "identity: address, @fqdn, user@domain, @#hex, @[key id], DN; without it the address"},
	{name: "rsasigkey", state: NotYet, harmless: []string{"%cert"}, doc: "raw RSA key", why: "authby=secret has no use for it"},
	{name: "ecdsakey", state: NotYet, harmless: []string{"%cert"}, doc: "raw ECDSA key", why: "authby=secret has no use for it"},
	{name: "eddsakey", state: NotYet, harmless: []string{"%cert"}, doc: "raw EdDSA key", why: "authby=secret has no use for it"},
	{name: "pubkey", state: NotYet, harmless: []string{"%cert"}, doc: "raw public key", why: "authby=secret has no use for it"},
	{name: "cert", state: NotYet, doc: "certificate", why: whyNoCerts},
	{name: "ckaid", state: NotYet, doc: "private key by its CKAID", why: whyNoCerts},
	{name: "sendcert", state: NotYet, def: "always", harmless: []string{"never", "no", "yes", "alwayssend", "sendifasked", "ifasked"}, doc: "when to send the certificate", why: whyNoCerts},
	{name: "ca", state: Refused, harmless: []string{"%any"}, doc: "CA that the peer's certificate must come from", why: whyAuth},
	{name: "xauthserver", state: Refused, kind: kindBool, def: "no", doc: "ask the user to authenticate (IKEv1)", why: whyAuth},
	{name: "xauthclient", state: Refused, kind: kindBool, def: "no", doc: "authenticate as a user (IKEv1)", why: whyAuth},
	{name: "modecfgserver", state: Refused, kind: kindBool, def: "no", doc: "hand out addresses", why: whyScope + ": " + whyCP},
	{name: "modecfgclient", state: Refused, kind: kindBool, def: "no", doc: "ask for an address", why: whyScope + ": " + whyCP},
	{name: "username", state: NotYet, doc: "user name of EAP and XAUTH", why: "EAP is not there yet"},
	{name: "addresspool", state: Refused, doc: "addresses to hand out", why: whyScope + ": " + whyCP},
	{
		name: "auth", state: Implemented, kind: kindEnum, words: []string{"secret", "psk", "never", "rsasig", "rsa", "ecdsa", "null", "eaponly"}, def: "from authby",
		doc: "authentication of this end; both ends need it; only secret (psk is the same) is implemented, the others refuse the connection",
	},
	{name: "cat", state: Refused, kind: kindBool, def: "no", doc: "client address translation", why: whyScope},
	{name: "protoport", state: Implemented, kind: kindProtoPort, def: "%any", doc: "protocol, protocol/port, protocol/from-to, protocol/%any; for ICMP the port is type*256+code"},
	{name: "autheap", state: Refused, def: "none", doc: "EAP method", why: whyAuth},
	{name: "groundhog", state: NotYet, kind: kindBool, def: "no", doc: "accept certificates out of their time", why: whyNoCerts},
	{name: "xauthusername", alias: "username", doc: "older name of username"},
}
