package conf

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/ts"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func selector(from, to string, protocol uint8, start, end uint16) ts.Selector {
	return ts.Selector{Start: addr(from), End: addr(to), Protocol: protocol, StartPort: start, EndPort: end}
}

// The values of keywords end up in the policy.
func TestCompiledValues(t *testing.T) {
	sn := func(c *policy.Connection) []iana.SN { return c.Children[0].ESP[0].SN }
	tests := []struct {
		more      string
		got       func(*policy.Connection) any
		want      any
		warnings  int
		overrides string // the keyword of good that more replaces
	}{
		{"retransmit-interval=250", func(c *policy.Connection) any { return c.Retransmit.Interval }, 250 * time.Millisecond, 0, ""},
		{"retransmit-interval=2s", func(c *policy.Connection) any { return c.Retransmit.Interval }, 2 * time.Second, 0, ""},
		{"retransmit-timeout=10", func(c *policy.Connection) any { return c.Retransmit.Timeout }, 10 * time.Second, 0, ""},
		{"retransmit-interval=40s", func(c *policy.Connection) any { return c.Retransmit.Interval }, 40 * time.Second, 1, ""},
		{"ikelifetime=1.5h", func(c *policy.Connection) any { return c.Lifetimes.IKE }, 90 * time.Minute, 1, ""},
		{"ikelifetime=2d", func(c *policy.Connection) any { return c.Lifetimes.IKE }, 24 * time.Hour, 2, ""},
		{"salifetime=1H", func(c *policy.Connection) any { return c.Lifetimes.Child }, time.Hour, 1, ""},
		{`lifetime="30 minutes"`, func(c *policy.Connection) any { return c.Lifetimes.Child }, 30 * time.Minute, 1, ""},
		{"dpddelay=30", func(c *policy.Connection) any { return c.Liveness }, 30 * time.Second, 0, ""},
		{"dpddelay=10ms", func(c *policy.Connection) any { return c.Liveness }, time.Second, 1, ""},
		{"enable-tcp=fallback", func(c *policy.Connection) any { return c.TCP.Mode }, policy.TCPFallback, 0, ""},
		{"enable-tcp=Yes", func(c *policy.Connection) any { return c.TCP.Mode }, policy.TCPYes, 0, ""},
		{"enable-tcp=off", func(c *policy.Connection) any { return c.TCP.Mode }, policy.TCPNo, 0, ""},
		{"enable-tcp=yes\n\ttcp-remoteport=443", func(c *policy.Connection) any { return c.TCP }, policy.TCP{Mode: policy.TCPYes, RemotePort: 443}, 0, ""},
		{"tcp-remoteport=443", func(c *policy.Connection) any { return c.TCP }, policy.TCP{Mode: policy.TCPNo, RemotePort: 443}, 1, ""},
		{"enable-tcp=yes", func(c *policy.Connection) any { return c.TCP }, policy.TCP{Mode: policy.TCPYes}, 0, ""},
		{"backend=userspace", func(c *policy.Connection) any { return c.Backend }, policy.BackendUserspace, 0, ""},
		{"backend=xfrm\n\tmark=5", func(c *policy.Connection) any { return c.Backend }, policy.BackendXFRM, 0, ""},
		{"leftikeport=7000", func(c *policy.Connection) any { return [2]uint16{c.Left.IKEPort, c.Right.IKEPort} }, [2]uint16{7000, 0}, 0, ""},
		{"rightikeport=4500", func(c *policy.Connection) any { return [2]uint16{c.Left.IKEPort, c.Right.IKEPort} }, [2]uint16{0, 4500}, 0, ""},
		{"right-ikeport=0", func(c *policy.Connection) any { return [2]uint16{c.Left.IKEPort, c.Right.IKEPort} }, [2]uint16{0, 0}, 0, ""},
		{"tcponly=yes", func(c *policy.Connection) any { return c.TCP.Mode }, policy.TCPYes, 1, ""},
		{"tcponly=no", func(c *policy.Connection) any { return c.TCP.Mode }, policy.TCPNo, 1, ""},
		{"tcponly=yes\n\tenable-tcp=fallback", func(c *policy.Connection) any { return c.TCP.Mode }, policy.TCPFallback, 1, ""},
		{"encapsulation=yes", func(c *policy.Connection) any { return c.Encapsulation }, policy.EncapYes, 0, ""},
		{"encapsulation=no", func(c *policy.Connection) any { return c.Encapsulation }, policy.EncapNo, 0, ""},
		{"narrowing=yes", func(c *policy.Connection) any { return c.Narrowing }, true, 0, ""},
		{"nat-keepalive=no", func(c *policy.Connection) any { return c.NATKeepAlive }, false, 0, ""},
		{"failureshunt=drop", func(c *policy.Connection) any { return c.Failure }, policy.ShuntDrop, 0, ""},
		{"failureshunt=reject", func(c *policy.Connection) any { return c.Failure }, policy.ShuntReject, 0, ""},
		{"failureshunt=pass", func(c *policy.Connection) any { return c.Failure }, policy.ShuntPass, 0, ""},
		{"negotiationshunt=hold", func(c *policy.Connection) any { return c.Negotiation }, policy.ShuntHold, 0, ""},
		{"negotiationshunt=passthrough", func(c *policy.Connection) any { return c.Negotiation }, policy.ShuntPass, 0, ""},
		{"pfs=no", func(c *policy.Connection) any { return c.Children[0].PFS }, false, 0, ""},
		{"pfs=yes", func(c *policy.Connection) any { return c.Children[0].PFS && !c.Children[0].PFSOptional }, true, 0, ""},
		{"mtu=1400", func(c *policy.Connection) any { return c.Children[0].PFS && c.Children[0].PFSOptional }, true, 0, ""},
		{"mtu=1400", func(c *policy.Connection) any { return c.Children[0].MTU }, 1400, 0, ""},
		{"replay-window=33", func(c *policy.Connection) any { return c.Children[0].ReplayWindow }, uint32(40), 0, ""},
		{"replay-window=0", func(c *policy.Connection) any { return c.Children[0].ReplayWindow }, uint32(0), 1, ""},
		{"replay-window=4096", func(c *policy.Connection) any { return c.Children[0].ReplayWindow }, uint32(4096), 0, ""},
		{"replay-window=4097", func(c *policy.Connection) any { return c.Children[0].ReplayWindow }, uint32(4096), 1, "4096 packets are used"},
		{"replay-window=0", func(c *policy.Connection) any { return sn(c) }, []iana.SN{iana.SN_32}, 1, ""},
		{"esn=yes", func(c *policy.Connection) any { return sn(c) }, []iana.SN{iana.SN_ESN}, 0, ""},
		{"esn=no", func(c *policy.Connection) any { return sn(c) }, []iana.SN{iana.SN_32}, 0, ""},
		{"esn=either", func(c *policy.Connection) any { return sn(c) }, []iana.SN{iana.SN_ESN, iana.SN_32}, 0, ""},
		{"esn=yes\n\treplay-window=0", func(c *policy.Connection) any { return sn(c) }, []iana.SN{iana.SN_32}, 2, ""},
		{"ike=aes128-sha2_256;dh19", func(c *policy.Connection) any { return c.IKE[0].KE }, []iana.KE{iana.KE_ECP256}, 0, ""},
		{"phase2alg=aes_gcm128", func(c *policy.Connection) any { return c.Children[0].ESP[0].Encr[0].KeyBits }, uint16(128), 0, ""},
		{"ikev2=insist", func(c *policy.Connection) any { return c.Name }, "a", 1, ""},
		{"auto=start", func(c *policy.Connection) any { return c.Auto }, policy.AutoStart, 0, "auto"},
		{"auto=route", func(c *policy.Connection) any { return c.Auto }, policy.AutoOnDemand, 0, "auto"},
		{"auto=keep", func(c *policy.Connection) any { return c.Auto }, policy.AutoKeep, 0, "auto"},
		{"leftauth=psk\n\trightauth=secret", func(c *policy.Connection) any { return c.Left.Auth }, iana.AuthSharedKey, 0, "authby"},
		{"leftsourceip=10.0.0.1", func(c *policy.Connection) any { return c.Left.SourceIP }, addr("10.0.0.1"), 0, ""},
		{"leftsourceip=10.0.0.1,10.0.0.2", func(c *policy.Connection) any { return c.Left.SourceIP }, addr("10.0.0.1"), 1, ""},
		{"leftsubnet=10.1.0.0/16\n\tleftsourceip=10.2.0.1", func(c *policy.Connection) any { return c.Left.SourceIP }, addr("10.2.0.1"), 1, ""},
		{"leftid=@west", func(c *policy.Connection) any { return c.Left.ID }, ident.Pattern{ID: ident.ID{Type: iana.ID_FQDN, Data: "west"}}, 0, ""},
		{"rightid=%any", func(c *policy.Connection) any { return c.Right.ID }, ident.Pattern{}, 1, ""},
		{"rightid=%none", func(c *policy.Connection) any { return c.Right.ID }, ident.Pattern{}, 1, ""},
		{"right=%any\n\trightid=%none", func(c *policy.Connection) any { return c.Right.ID }, ident.Pattern{Any: true}, 0, "right"},
		{"right=%any\n\trightid=%any", func(c *policy.Connection) any { return c.Right.ID }, ident.Pattern{Any: true}, 0, "right"},
		{"right=%any", func(c *policy.Connection) any { return c.Right.Host }, policy.Host{Kind: policy.HostAny}, 0, "right"},
		{"right=%any4", func(c *policy.Connection) any { return c.Right.Host }, policy.Host{Kind: policy.HostAny, Family: policy.FamilyV4}, 0, "right"},
		{"right=0.0.0.0", func(c *policy.Connection) any { return c.Right.Host }, policy.Host{Kind: policy.HostAny, Family: policy.FamilyV4}, 0, "right"},
		{"right=%any\n\thostaddrfamily=ipv4", func(c *policy.Connection) any { return c.Right.Host.Family }, policy.FamilyV4, 0, "right"},
		{"right=east.example.com.", func(c *policy.Connection) any { return c.Right.Host }, policy.Host{Kind: policy.HostName, Name: "east.example.com"}, 0, "right"},
		{"left=%defaultroute", func(c *policy.Connection) any { return c.Left.Host }, policy.Host{Kind: policy.HostDefaultRoute}, 0, "left"},
		{"left=::ffff:192.1.2.45", func(c *policy.Connection) any { return c.Left.Host.Addr }, addr("192.1.2.45"), 0, "left"},
	}
	for _, tt := range tests {
		base := good
		if tt.overrides != "" {
			base = strings.Replace(base, "\t"+tt.overrides+"=", "\tx-", 1)
		}
		set, ds := compileText("conn a" + base + "\t" + tt.more + "\n")
		if set == nil || len(set.Connections) != 1 {
			t.Errorf("%q is not loaded: %v", tt.more, ds)
			continue
		}
		if got := tt.got(set.Connections[0]); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q gives %v, expected %v", tt.more, got, tt.want)
		}
		if n := len(ds.AtLeast(Warning)); n != tt.warnings {
			t.Errorf("%q has %d warnings, expected %d: %v", tt.more, n, tt.warnings, ds)
		}
	}
}

func TestCompiledSelectors(t *testing.T) {
	tests := []struct {
		more     string
		want     ts.Set
		warnings int
	}{
		{"leftsubnet=192.0.1.0/24", ts.Set{selector("192.0.1.0", "192.0.1.255", 0, 0, 65535)}, 0},
		{"leftsubnet=192.0.1.5/24", ts.Set{selector("192.0.1.0", "192.0.1.255", 0, 0, 65535)}, 1},
		{"leftsubnet=10/8", ts.Set{selector("10.0.0.0", "10.255.255.255", 0, 0, 65535)}, 0},
		{"leftsubnet=0/0", ts.Set{selector("0.0.0.0", "255.255.255.255", 0, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/255.255.0.0", ts.Set{selector("10.0.0.0", "10.0.255.255", 0, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.7", ts.Set{selector("10.0.0.7", "10.0.0.7", 0, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.7-10.0.0.9", ts.Set{selector("10.0.0.7", "10.0.0.9", 0, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/8,192.168.0.0/16", ts.Set{selector("10.0.0.0", "10.255.255.255", 0, 0, 65535), selector("192.168.0.0", "192.168.255.255", 0, 0, 65535)}, 0},
		{`leftsubnet="10.0.0.0/8, 192.168.0.0/16,"`, ts.Set{selector("10.0.0.0", "10.255.255.255", 0, 0, 65535), selector("192.168.0.0", "192.168.255.255", 0, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/8,10.0.0.0/8", ts.Set{selector("10.0.0.0", "10.255.255.255", 0, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/8/tcp/443", ts.Set{selector("10.0.0.0", "10.255.255.255", 6, 443, 443)}, 0},
		{"leftsubnet=10.0.0.7/udp", ts.Set{selector("10.0.0.7", "10.0.0.7", 17, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.7-10.0.0.9/tcp/443", ts.Set{selector("10.0.0.7", "10.0.0.9", 6, 443, 443)}, 0},
		{"leftsubnet=10.0.0.7-10.0.0.9/17", ts.Set{selector("10.0.0.7", "10.0.0.9", 17, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/8/icmp/2048", ts.Set{selector("10.0.0.0", "10.255.255.255", 1, 2048, 2048)}, 0},
		{"leftsubnet=10.0.0.0/8/icmp/0-0", ts.Set{selector("10.0.0.0", "10.255.255.255", 1, 0, 0)}, 0},
		{"leftsubnet=10.0.0.0/8/icmp/8", ts.Set{selector("10.0.0.0", "10.255.255.255", 1, 8, 8)}, 1},
		{"leftsubnet=10.0.0.0/8\n\tleftprotoport=icmp/2048-2303", ts.Set{selector("10.0.0.0", "10.255.255.255", 1, 2048, 2303)}, 0},
		{"leftsubnet=10.0.0.0/8\n\tleftprotoport=1/8", ts.Set{selector("10.0.0.0", "10.255.255.255", 1, 8, 8)}, 1},
		{"leftsubnet=10.0.0.0/8/udp", ts.Set{selector("10.0.0.0", "10.255.255.255", 17, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/8\n\tleftprotoport=udp/1701", ts.Set{selector("10.0.0.0", "10.255.255.255", 17, 1701, 1701)}, 0},
		{"leftsubnet=10.0.0.0/8\n\tleftprotoport=17/%any", ts.Set{selector("10.0.0.0", "10.255.255.255", 17, 0, 65535)}, 0},
		{"leftsubnet=10.0.0.0/8\n\tleftprotoport=tcp/1000-2000", ts.Set{selector("10.0.0.0", "10.255.255.255", 6, 1000, 2000)}, 0},
		{"leftsubnet=10.0.0.0/8\n\tleftprotoport=udp/%opaque", ts.Set{selector("10.0.0.0", "10.255.255.255", 17, 65535, 0)}, 0},
		{"leftsubnet=2001:db8::/33\n\trightsubnet=2001:db9::/32", ts.Set{selector("2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff", 0, 0, 65535)}, 0},
		{"", nil, 0},
	}
	for _, tt := range tests {
		c, ds := one(t, "\t"+tt.more+"\n")
		if c == nil || len(ds.AtLeast(Warning)) != tt.warnings {
			t.Errorf("%q: %v", tt.more, ds)
			continue
		}
		if !slices.Equal(c.Children[0].Left, tt.want) || !slices.Equal(c.Left.Subnets, tt.want) {
			t.Errorf("%q gives %+v", tt.more, c.Children[0].Left)
		}
	}
	c := mustOne(t, "\tleftprotoport=udp/1701\n")
	if c.Left.Protocol != 17 || c.Left.StartPort != 1701 || c.Left.EndPort != 1701 || c.Right.EndPort != 65535 {
		t.Errorf("protoport without subnet: %+v", c.Left)
	}
}

func TestCompiledSetup(t *testing.T) {
	set, ds := compileText(`config setup
	listen-udp=no
	listen-tcp=4500,443
	listen=192.1.2.45
	keep-alive=1m
	uniqueids=no
	ddos-mode=busy
	ddos-ike-threshold=10
	max-halfopen-ike=20
	secretsfile=/etc/other.secrets
`)
	if len(ds) > 0 {
		t.Fatal(ds)
	}
	want := policy.Setup{
		ListenTCP: []uint16{4500, 443}, Listen: addr("192.1.2.45"), KeepAlive: time.Minute, MaxHalfOpen: 20, CookieThreshold: 10,
		CookieMode: policy.CookieAlways, SecretsFile: "/etc/other.secrets",
	}
	if !set.Setup.Equal(want) {
		t.Errorf("%+v", set.Setup)
	}
	for keyword, where := range map[string]string{
		"listen-tcp": "listen-tcp= of ipsec.conf:3", "max-halfopen-ike": "max-halfopen-ike= of ipsec.conf:9", "virtual-private": "the default of virtual-private= in config setup",
	} {
		if got := set.Setup.Where(keyword); got != where {
			t.Errorf("%s is at %q, want %q", keyword, got, where)
		}
	}
}

// Mistakes that concern more than one keyword.
func TestSemanticErrors(t *testing.T) {
	for _, tt := range []struct{ more, want string }{
		{"x-left\n", ""},
		{"leftid=@a\n\tleftauth=secret", "leftauth= without rightauth="},
		{"rightauth=secret", "rightauth= without leftauth="},
		{"leftauth=secret\n\trightauth=rsasig", "rightauth=rsasig is not supported yet"},
		{"authby=secret,rsa-sha2", "rsa-sha2 is not supported yet"},
		{"authby=sekret", `"sekret" is not a method of authentication; did you mean secret?`},
		{"right=192.1.2.45", "left= and right= are the same address"},
		{"right=2001:db8::1", "left=192.1.2.45 is IPv4, and right=2001:db8::1 is IPv6"},
		{"hostaddrfamily=ipv6", "left=192.1.2.45 is IPv4, and hostaddrfamily= says IPv6"},
		{"left=%any\n\tright=%any", "neither left=%any nor right=%any can be this host"},
		{"left=%defaultroute\n\tright=%defaultroute", "both %defaultroute"},
		{"leftsubnet=10.0.0.0/8\n\trightsubnet=2001:db8::/32", "no traffic can match"},
		{"rightsubnet=2001:db8::/32", "no traffic can match"},
		{"leftprotoport=tcp/80\n\trightprotoport=udp/80", "the left side is TCP/80 and the right side is UDP/80: no packet has both protocols"},
		{"leftsubnet=10.0.0.0/8/tcp\n\trightprotoport=icmp/8", "the left side is TCP and the right side is ICMP/8"},
		{"leftsubnet=10.0.0.0/8\n\trightsubnet=10.0.0.0/8", "are the same"},
		{"leftsubnet=10.0.0.0/8/tcp\n\tleftprotoport=tcp", "write it in one place"},
		{"ike=aes256-sha2_512;dh19,aes256-rot13", `"rot13"`},
	} {
		base := good
		for line := range strings.Lines(tt.more) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "=")
			base = strings.Replace(base, "\t"+word+"=", "\tx-", 1)
		}
		set, ds := compileText("conn a" + base + "\t" + tt.more + "\nconn b" + good)
		if tt.want == "" {
			if len(set.Connections) != 2 {
				t.Errorf("%q: %v", tt.more, ds)
			}
			continue
		}
		if set == nil || len(set.Connections) != 1 || set.Connections[0].Name != "b" {
			t.Errorf("%q is loaded: %v", tt.more, ds)
		}
		if len(find(ds.AtLeast(Error), tt.want)) != 1 {
			t.Errorf("%q: expected %q among\n%v", tt.more, tt.want, ds)
		}
	}
	for _, missing := range []string{"left", "right"} {
		_, ds := compileText("conn a" + strings.Replace(good, "\t"+missing+"=", "\tx-", 1))
		if len(find(ds.AtLeast(Error), missing+"= is missing")) != 1 {
			t.Errorf("without %s=: %v", missing, ds)
		}
	}
}

// A peer from anywhere cannot be asked: that auto= waits for it is told.
func TestStartOfATemplate(t *testing.T) {
	for auto, want := range map[string]string{"start": "auto=start has no effect", "route": "auto=route has no effect", "add": "", "keep": ""} {
		text := "conn a" + strings.NewReplacer("\tright=", "\tright=%any\n\tx-", "\tauto=add", "\tauto="+auto).Replace(good)
		set, ds := compileText(text)
		if len(set.Connections) != 1 {
			t.Fatalf("%s: %v", auto, ds)
		}
		if found := find(ds, "has no effect"); (want == "") != (len(found) == 0) || want != "" && (len(find(found, want)) != 1 || found[0].Severity != Note) {
			t.Errorf("auto=%s: expected %q among\n%v", auto, want, ds)
		}
	}
}

// An error inside a list points at the element.
func TestColumnsInsideValues(t *testing.T) {
	for _, tt := range []struct {
		line       string
		col, width int
	}{
		{"\tleftsubnet=10.0.0.0/8,10.0.0.0/99", 24, 11},
		{"\tleftsubnet=\"10.0.0.0/8, ten/8\"", 26, 5},
		{"\tleftsubnet={ten/8}", 14, 5},
		{"\tauthby=secret,sekret", 16, 6},
		{"\tike=aes256-rot13", 13, 5},
		{"\tprotoport=x", 2, 9},
		{"\tleftprotoport=foo/80", 16, 3},
		{"\tleftprotoport=tcp/x", 20, 1},
		{"\tesn = maybe", 8, 5},
	} {
		base := good
		if strings.Contains(tt.line, "authby") {
			base = strings.Replace(base, "\tauthby=", "\tx-", 1)
		}
		_, ds := compileText("conn a" + base + tt.line + "\n")
		if bad := ds.AtLeast(Error); len(bad) != 1 || bad[0].Col != tt.col || bad[0].Width != tt.width || bad[0].Source != tt.line {
			t.Errorf("%q: %+v", tt.line, bad)
		}
	}
}

func TestAlsoAndDefault(t *testing.T) {
	ends := "\tleft=192.1.2.45\n\tright=192.1.2.23\n"
	tests := []struct {
		name, text string
		loaded     string // names
		lifetime   time.Duration
		diag       string
	}{
		{"taken in", "conn a\n\talso=b\n\tauto=add\nconn b\n\tdpddelay=2h\n\tauthby=secret\n" + ends, "a", 2 * time.Hour, ""},
		{"depth first, chains", "conn a\n\talso=b\n\tauto=add\nconn b\n\talso=c\n\tauthby=secret\nconn c\n\tdpddelay=2h\n" + ends, "a", 2 * time.Hour, ""},
		{"a loop is skipped", "conn a\n\talso=b\n\tauto=add\n\tdpddelay=2h\n\tauthby=secret\nconn b\n\talso=a\n" + ends, "a b", 2 * time.Hour, ""},
		{"itself", "conn a\n\talso=a\n\tauto=add\n\tdpddelay=2h\n\tauthby=secret\n" + ends, "a", 2 * time.Hour, ""},
		{"a diamond is taken once", "conn a\n\talso=b\n\talso=c\n\tauto=add\nconn b\n\talso=d\nconn c\n\talso=d\nconn d\n\tdpddelay=2h\n\tauthby=secret\n" + ends, "a", 2 * time.Hour, ""},
		{"default is overridden", "conn %default\n\tdpddelay=1h\n\tauthby=secret\n\tauto=add\nconn a\n\tdpddelay=2h\n" + ends, "a", 2 * time.Hour, ""},
		{"default is overridden by also", "conn %default\n\tdpddelay=1h\n\tauthby=secret\nconn a\n\tauto=add\n\talso=b\nconn b\n\tdpddelay=2h\n" + ends, "a", 2 * time.Hour, ""},
		{"later default wins, before and behind the conn", "conn %default\n\tdpddelay=1h\n\tauthby=secret\n\tauto=add\nconn a\n" + ends + "conn %default\n\tdpddelay=2h\n", "a", 2 * time.Hour, ""},
		{"the same value twice", "conn a\n\talso=b\n\tauto=add\n\tdpddelay=2h\n\tauthby=secret\nconn b\n\tdpddelay=2h\n" + ends, "a", 2 * time.Hour, "conn a has dpddelay=2h twice"},
		{"different values", "conn a\n\talso=b\n\tauto=add\n\tdpddelay=2h\n\tauthby=secret\nconn b\n\tdpddelay=3h\n" + ends, "", 0, "dpddelay=2h differs from dpddelay=3h in ipsec.conf:7 (conn b)"},
		{"different values of two others", "conn a\n\talso=b\n\talso=c\n\tauto=add\n\tauthby=secret\nconn b\n\tdpddelay=3h\nconn c\n\tdpddelay=2h\n" + ends, "", 0, "dpddelay=2h differs from dpddelay=3h"},
		{"ignore in another", "conn a\n\talso=b\n\tauto=add\n\tauthby=secret\n" + ends + "conn b\n\tauto=ignore\n", "", 0, "error: conn a: auto=add differs from auto=ignore in ipsec.conf:8 (conn b)"},
		{"ignore in another, behind", "conn a\n\tauto=start\n\talso=b\n\tauthby=secret\n" + ends + "conn b\n\tauto=ignore\n", "", 0, "error: conn a: auto=ignore differs from auto=start in ipsec.conf:2 (conn a)"},
		{"ignore here", "conn a\n\tauto=ignore\n\talso=b\n\tauthby=secret\n" + ends + "conn b\n\tauto=add\n", "", 0, "error: conn a: auto=add differs from auto=ignore in ipsec.conf:2 (conn a)"},
		{"ignore twice", "conn a\n\tauto=ignore\n\talso=b\n\tauthby=secret\n" + ends + "conn b\n\tauto=ignore\n", "", 0, ""},
		{"missing", "conn a\n\talso=bb\n\tauto=add\n\tauthby=secret\n" + ends + "conn bbb\n", "", 0, `there is no conn "bb" to take in; did you mean bbb?`},
		{"missing in another", "conn a\n\talso=b\n\tauto=add\n\tauthby=secret\n" + ends + "conn b\n\talso=c\n", "", 0, "conn a: it is not loaded because of conn b, which it takes in"},
		{"error in another", "conn a\n\talso=b\n\tauto=add\n\tauthby=secret\n" + ends + "conn b\n\tfoo=1\n", "", 0, "conn a: it is not loaded because of conn b"},
		{"bad value in another", "conn a\n\talso=b\n\tauto=add\n\tauthby=secret\n" + ends + "conn b\n\tesn=maybe\n", "", 0, "conn a: it is not loaded because of esn= in ipsec.conf:8 (conn b)"},
		{"refused in another", "conn a\n\talso=b\n\tauto=add\n\tauthby=secret\n" + ends + "conn b\n\ttfc=1400\n", "", 0, "conn a: it is not loaded because of tfc= in ipsec.conf:8 (conn b)"},
		{"refused in a default that is overridden", "conn %default\n\ttfc=1400\n\tauto=add\n\tauthby=secret\nconn a\n\ttfc=0\n\tdpddelay=2h\n" + ends, "a", 2 * time.Hour, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, ds := compileText(tt.text)
			if set == nil {
				t.Fatal(ds)
			}
			var names []string
			for _, c := range set.Connections {
				names = append(names, c.Name)
				if c.Liveness != tt.lifetime {
					t.Errorf("dpddelay of %s is %v", c.Name, c.Liveness)
				}
			}
			if strings.Join(names, " ") != tt.loaded {
				t.Errorf("loaded %q: %v", names, ds)
			}
			if tt.diag == "" && len(ds.AtLeast(Warning)) > 0 || tt.diag != "" && len(find(ds, tt.diag)) != 1 {
				t.Errorf("expected %q among\n%v", tt.diag, ds)
			}
		})
	}
}

// auto=ignore connections are not in the set, can be asked for by name, and their shortcomings are warnings.
func TestIgnoredConnections(t *testing.T) {
	text := "conn a\n\tleft=192.1.2.45\n\tright=192.1.2.23\n\tauthby=secret\n" + "conn b\n\tauto=ignore\n\tleft=192.1.2.45\n\tright=192.1.2.23\n\tauthby=rsasig\n" +
		"conn part\n\tleftid=@x\nconn oe\n\tleft=%group\n\tright=%defaultroute\n\tauthby=secret\nconn c" + good + "\tesn=maybe\n"
	c, _ := load("ipsec.conf", Options{}, mapFiles{"ipsec.conf": text})
	set, ds := c.Compile()
	if len(set.Connections) != 0 {
		t.Errorf("loaded %v", set.Connections)
	}
	if got := c.Names(); !slices.Equal(got, []string{"a", "b", "part", "oe", "c"}) {
		t.Errorf("names %q", got)
	}
	if len(find(ds, "note: conn a: it is not loaded at start: auto= is not written")) != 1 {
		t.Errorf("no note about auto=: %v", ds)
	}
	if len(find(ds, "warning: conn b: authby=rsasig")) != 1 || len(find(ds, "note: conn part: it is no connection by itself")) != 1 || len(find(ds, "warning: conn oe: left: %group")) != 1 {
		t.Errorf("%v", ds)
	}
	if p, ds := c.Connection("a"); p == nil || len(ds.AtLeast(Warning)) > 0 {
		t.Errorf("connection a: %v", ds)
	}
	if p, ds := c.Connection("b"); p != nil || len(find(ds, "error: conn b: authby=rsasig")) != 1 || len(find(ds, "conn c")) != 0 {
		t.Errorf("connection b: %v", ds)
	}
	if p, ds := c.Connection("C"); p != nil || !ds.HasErrors() || len(find(ds, "did you mean c?")) != 1 {
		t.Errorf("connection C: %v", ds)
	}
}

func TestPositions(t *testing.T) {
	c := mustOne(t, "\tleftid=@west\n\tike=aes256-sha2_512;dh19\n")
	if c.Position != "ipsec.conf:1" || c.Left.Positions["leftid"] != "ipsec.conf:6" || c.Right.Positions["right"] != "ipsec.conf:3" || c.Positions["ike"] != "ipsec.conf:7" {
		t.Errorf("%q %v %v %v", c.Position, c.Positions, c.Left.Positions, c.Right.Positions)
	}
}

func TestDiff(t *testing.T) {
	set := func(text string) *policy.Set {
		t.Helper()
		s, ds := compileText(text)
		if s == nil || ds.HasErrors() {
			t.Fatal(ds)
		}
		return s
	}
	old := set("conn a" + good + "conn b" + good + "conn c" + good)
	same := set("# moved\n\nconn %default\n\tauthby=secret\nconn a" + good + "conn b" + good + "conn c" + good)
	if ch := Diff(old, same); !ch.Empty() {
		t.Errorf("moved connections differ: %+v", ch)
	}
	changed := set("config setup\n\tlisten-tcp=yes\nconn d" + good + "conn b" + good + "\tesn=no\nconn a" + good)
	if ch := Diff(old, changed); !reflect.DeepEqual(ch, Changes{Added: []string{"d"}, Removed: []string{"c"}, Changed: []string{"b"}, Setup: true}) {
		t.Errorf("%+v", ch)
	}
	if ch := Diff(nil, old); !slices.Equal(ch.Added, []string{"a", "b", "c"}) || ch.Setup {
		t.Errorf("%+v", ch)
	}
}

// TestKeywordsTogether: keywords that each have a check of their own, in every number and order: there is a connection or an error, never a crash.
func TestKeywordsTogether(t *testing.T) {
	pool := []string{
		"left=192.1.2.45", "left=%any", "left=%defaultroute", "left=2001:db8::1", "left=w.example", "right=192.1.2.23", "right=%any6", "right=e.example", "right=2001:db8::2",
		"type=transport", "type=pass", "leftsubnet=192.0.1.0/24", "leftsubnet=10.0.0.1-10.0.0.9,::/0", "rightsubnet=0.0.0.0/0", "rightsubnet=192.0.1.0/24", "leftsubnets=10.0.0.0/24,10.1.0.0/24",
		"rightsubnets=::/0,10.2.0.0/16/tcp/443", "rightsubnets=2001:db8:1::/64", "leftprotoport=icmp/8", "rightprotoport=tcp/%any", "leftsourceip=10.0.0.1", "leftsourceip=2001:db8::5,10.0.0.1",
		"esp=aes256;ke=dh19+none;sn=yes", "esp=aes_gcm256-sha1", "ike=aes256-sha2;modp2048+dh31", "phase2=ah", "pfs=no", "esn=either", "encapsulation=no", "enable-tcp=fallback", "tcp-remoteport=500",
		"leftauth=secret", "rightauth=rsa", "authby=secret", "leftid=%any", "rightid=\"CN=*\"", "hostaddrfamily=ipv6", "keyexchange=ikev1", "ikev2=never", "narrowing=yes", "mtu=1280", "dpddelay=3",
	}
	r := rand.New(rand.NewPCG(3, 6))
	loaded := 0
	for range 5000 {
		text := "conn a\n auto=add\n"
		if r.IntN(2) == 0 {
			text += " left=192.1.2.45\n right=192.1.2.23\n authby=secret\n"
		}
		for range r.IntN(8) {
			text += " " + pool[r.IntN(len(pool))] + "\n"
		}
		set, ds := compileText(text)
		switch n := len(set.Connections); {
		case n == 0 && len(ds.AtLeast(Error)) == 0:
			t.Fatalf("no connection and no error:\n%s", text)
		case n == 1 && len(set.Connections[0].Children) == 0:
			t.Fatalf("a connection without a Child SA:\n%s", text)
		default:
			loaded += n
		}
	}
	if loaded < 300 {
		t.Errorf("only %d connections", loaded)
	}
}

// TestTransportMode: it is between the two hosts themselves, so nothing else may be written as what it protects.
func TestTransportMode(t *testing.T) {
	const hosts = "conn a\n left=192.1.2.45\n right=192.1.2.23\n authby=secret\n type=transport\n auto=add\n"
	for more, wrong := range map[string]string{
		"":                                 "",
		" leftprotoport=udp/1701\n":        "",
		" leftsubnet=192.1.2.45/32\n":      "",
		" leftsubnet=192.0.1.0/24\n":       "leftsubnet= is not the address of left=",
		" rightsubnet=192.1.2.24/32\n":     "rightsubnet= is not the address of right=",
		" leftsourceip=192.0.1.254\n":      "leftsourceip= is another",
		" leftsubnets=192.0.1.0/24\n":      "leftsubnets= is not the address of left=",
		" leftsubnets=192.1.2.45/32\n":     "",
		" leftsubnet=192.1.2.45/32,::/0\n": "leftsubnet= is not the address of left=",
	} {
		set, ds := compileText(hosts + more)
		if wrong != "" {
			if len(set.Connections) != 0 || len(find(ds, wrong)) != 1 {
				t.Errorf("%q: %v", more, ds)
			}
			continue
		}
		if len(set.Connections) != 1 || !set.Connections[0].Children[0].Transport {
			t.Errorf("%q: %v", more, ds)
		}
	}
	for _, host := range []string{"%any", "%defaultroute"} {
		text := strings.Replace(hosts, "left=192.1.2.45", "left="+host, 1)
		if set, ds := compileText(text); len(set.Connections) != 1 {
			t.Errorf("left=%s: %v", host, ds)
		}
	}
}
