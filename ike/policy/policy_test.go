package policy

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func selector(from, to string) ts.Selector {
	return ts.Selector{Start: addr(from), End: addr(to), EndPort: 0xffff}
}

// sample has no zero value that matters, so that a mutation of any field is a change.
func sample() *Connection {
	end := func(host, id, from, to string) End {
		return End{
			Host: Host{Kind: HostAddress, Addr: addr(host), Name: "n", Family: FamilyV4},
			ID:   ident.Pattern{ID: ident.ID{Type: iana.ID_FQDN, Data: id}}, Auth: iana.AuthSharedKey,
			Subnets: ts.Set{selector(from, to)}, Updown: "x", SourceIP: addr(from), Protocol: 6, StartPort: 1, EndPort: 2,
			Positions: map[string]string{"left": "a:1", "right": "a:2"},
		}
	}
	p := suite.Proposals{{Encr: []suite.Encr{{ID: 20, KeyBits: 256}}, PRF: []iana.PRF{5}, Integ: []iana.Integ{12}, KE: []iana.KE{19}, SN: []iana.SN{1}}}
	return &Connection{
		Name: "westnet-eastnet", Position: "a:1",
		Left:  end("192.1.2.45", "west", "192.0.1.0", "192.0.1.255"),
		Right: end("192.1.2.23", "east", "192.0.2.0", "192.0.2.255"),
		Auto:  AutoAdd, IKE: p,
		Children: []Child{{
			Name: "c", ESP: p, PFS: true, Left: ts.Set{selector("192.0.1.0", "192.0.1.255")},
			Right: ts.Set{selector("192.0.2.0", "192.0.2.255")}, ReplayWindow: 128, MTU: 1400, Transport: true,
		}},
		TCP: TCP{TCPFallback, 4500}, Retransmit: Retransmit{time.Second, time.Minute}, Liveness: time.Second,
		Lifetimes: Lifetimes{time.Hour, time.Hour}, Encapsulation: EncapYes, Narrowing: true, NATKeepAlive: true,
		Failure: ShuntDrop, Negotiation: ShuntHold,
	}
}

// Every field of a connection but its positions counts in the hash: the test walks the structure, so a new field that the encoding forgets is found.
func TestHashCoversEveryField(t *testing.T) {
	base := sample().Hash()
	if base != sample().Hash() {
		t.Fatal("the hash of equal connections differs")
	}
	seen := 0
	var walk func(path string, pick func(*Connection) reflect.Value)
	walk = func(path string, pick func(*Connection) reflect.Value) {
		c := sample()
		v := pick(c)
		if strings.Contains(path, "Position") {
			return
		}
		switch {
		case v.Type() == reflect.TypeFor[netip.Addr]():
			v.Set(reflect.ValueOf(addr("9.9.9.9")))
		case v.Type() == reflect.TypeFor[netip.Prefix]():
			v.Set(reflect.ValueOf(netip.MustParsePrefix("9.9.9.9/8")))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, func(c *Connection) reflect.Value { return pick(c).Field(i) })
			}
			return
		case v.Kind() == reflect.Slice:
			if v.Len() == 0 {
				t.Fatalf("%s is empty in the sample", path)
			}
			walk(path+"[0]", func(c *Connection) reflect.Value { return pick(c).Index(0) })
			v.Set(reflect.Append(v, v.Index(0)))
		case v.Kind() == reflect.String:
			v.SetString(v.String() + "x")
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		case v.CanUint():
			v.SetUint(v.Uint() + 1)
		case v.CanInt():
			v.SetInt(v.Int() + 1)
		default:
			t.Fatalf("%s: kind %s is new to this test", path, v.Kind())
		}
		seen++
		if c.Hash() == base {
			t.Errorf("%s changed, the hash did not", path)
		}
	}
	walk("Connection", func(c *Connection) reflect.Value { return reflect.ValueOf(c).Elem() })
	if seen < 60 {
		t.Errorf("only %d fields walked", seen)
	}
}

func TestHashIgnoresPositions(t *testing.T) {
	c := sample()
	c.Position, c.Left.Positions, c.Right.Positions = "b:9", nil, map[string]string{"right": "z"}
	if c.Hash() != sample().Hash() {
		t.Error("positions count in the hash")
	}
}

// Every field of config setup counts in Equal.
func TestSetupEqual(t *testing.T) {
	base := func() Setup {
		return Setup{ListenTCP: []uint16{4500}, Listen: addr("192.1.2.45"), KeepAlive: time.Second, MaxHalfOpen: 1, SecretsFile: "a"}
	}
	if !base().Equal(base()) {
		t.Fatal("equal setups differ")
	}
	for i := range reflect.TypeFor[Setup]().NumField() {
		s := base()
		v := reflect.ValueOf(&s).Elem().Field(i)
		switch {
		case v.Type() == reflect.TypeFor[netip.Addr]():
			v.Set(reflect.ValueOf(addr("9.9.9.9")))
		case v.Kind() == reflect.Slice:
			v.Set(reflect.Append(v, v.Index(0)))
		case v.Kind() == reflect.Map:
			if s.Positions = map[string]string{"listen": "ipsec.conf:2"}; !s.Equal(base()) {
				t.Error("a line has moved, and the setups differ")
			}
			continue
		case v.Kind() == reflect.String:
			v.SetString("b")
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		case v.CanUint():
			v.SetUint(v.Uint() + 1)
		default:
			v.SetInt(v.Int() + 1)
		}
		if s.Equal(base()) || base().Equal(s) {
			t.Errorf("%s changed, and the setups are equal", reflect.TypeFor[Setup]().Field(i).Name)
		}
	}
}

// Moving octets from one string to its neighbour, or elements from one list to the next, is a change.
func TestHashIsUnambiguous(t *testing.T) {
	a, b := sample(), sample()
	a.Left.Host.Name, a.Left.ID.ID.Data = "ab", "c"
	b.Left.Host.Name, b.Left.ID.ID.Data = "a", "bc"
	if a.Hash() == b.Hash() {
		t.Error("strings run into each other")
	}
	a, b = sample(), sample()
	a.IKE[0].PRF, a.IKE[0].Integ = []iana.PRF{5, 12}, nil
	b.IKE[0].PRF, b.IKE[0].Integ = nil, []iana.Integ{5, 12}
	if a.Hash() == b.Hash() {
		t.Error("lists run into each other")
	}
}

func local(addrs ...string) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		for _, s := range addrs {
			if addr(s) == a {
				return true
			}
		}
		return false
	}
}

func noRoute(netip.Addr) (netip.Addr, error) {
	return netip.Addr{}, errors.New("network is unreachable")
}

func TestOrient(t *testing.T) {
	route := func(remote netip.Addr) (netip.Addr, error) {
		if remote.IsValid() && remote.Is6() {
			return addr("2001:db8::1"), nil
		}
		return addr("10.9.9.9"), nil
	}
	host := func(kind HostKind, a string) Host {
		h := Host{Kind: kind}
		if kind == HostName {
			h.Name = a
		} else if a != "" {
			h.Addr = addr(a)
		}
		return h
	}
	tests := []struct {
		name                  string
		left, right           Host
		local                 []string
		source                func(netip.Addr) (netip.Addr, error)
		wantLeft              bool
		wantLocal, wantPeer   string
		wantError, wantError2 string
	}{
		{"left is us", host(HostAddress, "192.1.2.45"), host(HostAddress, "192.1.2.23"), []string{"192.1.2.45"}, route, true, "192.1.2.45", "192.1.2.23", "", ""},
		{"right is us", host(HostAddress, "192.1.2.45"), host(HostAddress, "192.1.2.23"), []string{"192.1.2.23"}, route, false, "192.1.2.23", "192.1.2.45", "", ""},
		{"template", host(HostAddress, "192.1.2.45"), host(HostAny, ""), []string{"192.1.2.45"}, route, true, "192.1.2.45", "", "", ""},
		{"default route", host(HostDefaultRoute, ""), host(HostAddress, "192.1.2.23"), nil, route, true, "10.9.9.9", "192.1.2.23", "", ""},
		{"default route, v6", host(HostAddress, "2001:db8::23"), host(HostDefaultRoute, ""), nil, route, false, "2001:db8::1", "2001:db8::23", "", ""},
		{"default route without route", host(HostDefaultRoute, ""), host(HostAddress, "192.1.2.23"), nil, noRoute, true, "", "", "left=%defaultroute (f:3)", "network is unreachable"},
		{"neither", host(HostAddress, "192.1.2.45"), host(HostAddress, "192.1.2.23"), nil, route, true, "", "", "neither left=192.1.2.45 (f:3) nor right=192.1.2.23 (f:4) is an address of this host", "conn w"},
		{"both", host(HostAddress, "192.1.2.45"), host(HostAddress, "192.1.2.23"), []string{"192.1.2.45", "192.1.2.23"}, route, true, "", "", "both left=192.1.2.45 (f:3) and right=192.1.2.23 (f:4)", "conn w"},
		{"name", host(HostAddress, "192.1.2.45"), host(HostName, "east.example.com"), []string{"192.1.2.45"}, route, true, "", "", "right=east.example.com (f:4)", "not resolved"},
		{"families", host(HostAddress, "192.1.2.45"), host(HostAddress, "2001:db8::23"), []string{"192.1.2.45"}, route, true, "", "", "IPv4", "IPv6"},
		{"family of a template", host(HostAddress, "192.1.2.45"), Host{Kind: HostAny, Family: FamilyV6}, []string{"192.1.2.45"}, route, true, "", "", "right=%any6", "IPv6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := sample()
			c.Name, c.Left.Host, c.Right.Host = "w", tt.left, tt.right
			c.Left.Positions, c.Right.Positions = map[string]string{"left": "f:3"}, map[string]string{"right": "f:4"}
			o, err := c.Orient(local(tt.local...), tt.source)
			if tt.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantError) || !strings.Contains(err.Error(), tt.wantError2) {
					t.Fatalf("error %v, want it to say %q and %q", err, tt.wantError, tt.wantError2)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if o.LeftIsLocal != tt.wantLeft || o.LocalAddr != addr(tt.wantLocal) {
				t.Errorf("left is local: %v, local %s", o.LeftIsLocal, o.LocalAddr)
			}
			if tt.wantPeer == "" && o.RemoteAddr.IsValid() || tt.wantPeer != "" && o.RemoteAddr != addr(tt.wantPeer) {
				t.Errorf("peer %s, want %q", o.RemoteAddr, tt.wantPeer)
			}
		})
	}
}

// TestOrientWildcard: a DN with "*" is good for a peer, and no identity that we could send.
func TestOrientWildcard(t *testing.T) {
	many, err := ident.Parse("C=CH, CN=*")
	if err != nil {
		t.Fatal(err)
	}
	c := sample()
	c.Left.Host, c.Right.Host = Host{Addr: addr("192.1.2.45")}, Host{Addr: addr("192.1.2.23")}
	c.Left.ID, c.Left.Positions = ident.Pattern{ID: many}, map[string]string{"leftid": "f:5"}
	if _, err := c.Orient(local("192.1.2.45"), noRoute); err == nil || !strings.Contains(err.Error(), "leftid=C=CH, CN=* (f:5) stands for many") {
		t.Errorf("as our own identity: %v", err)
	}
	if _, err := c.Orient(local("192.1.2.23"), noRoute); err != nil {
		t.Errorf("as the peer's: %v", err)
	}
}

func TestOrientNameIsUnresolved(t *testing.T) {
	c := sample()
	c.Right.Host = Host{Kind: HostName, Name: "east.example.com"}
	if _, err := c.Orient(local("192.1.2.45"), noRoute); !errors.Is(err, ErrUnresolved) {
		t.Errorf("error %v is not ErrUnresolved", err)
	}
}

// Without a subnet the selectors are the hosts, with protoport; a template's are known once it has a peer.
func TestHostSelectors(t *testing.T) {
	c := sample()
	c.Children[0].Left, c.Children[0].Right = nil, nil
	c.Left.Protocol, c.Left.StartPort, c.Left.EndPort = 17, 1701, 1701
	c.Right.Protocol = 0
	c.Right.Host = Host{Kind: HostAny}
	o, err := c.Orient(local("192.1.2.45"), noRoute)
	if err != nil {
		t.Fatal(err)
	}
	want := ts.Set{{Start: addr("192.1.2.45"), End: addr("192.1.2.45"), Protocol: 17, StartPort: 1701, EndPort: 1701}}
	if got := o.LocalTS(0); !reflect.DeepEqual(got, want) {
		t.Errorf("local selectors %+v", got)
	}
	if got := o.RemoteTS(0); len(got) != 0 {
		t.Errorf("selectors of a template's peer: %+v", got)
	}
	want = ts.Set{{Start: addr("10.1.1.1"), End: addr("10.1.1.1"), EndPort: 0xffff}}
	if got := o.Instance(addr("10.1.1.1")).RemoteTS(0); !reflect.DeepEqual(got, want) {
		t.Errorf("selectors of an instance's peer: %+v", got)
	}
	if o.RemoteAddr.IsValid() {
		t.Error("Instance changed the template")
	}
}

func TestIdentities(t *testing.T) {
	c := sample()
	c.Left.ID, c.Right.ID = ident.Pattern{}, ident.Pattern{}
	o, err := c.Orient(local("192.1.2.45"), noRoute)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.LocalID(); got != ident.FromAddr(addr("192.1.2.45")) {
		t.Errorf("local id %v", got)
	}
	if got := o.RemoteID(); got != (ident.Pattern{ID: ident.FromAddr(addr("192.1.2.23"))}) {
		t.Errorf("remote id %v", got)
	}
	c.Right.Host = Host{Kind: HostAny}
	if o, err = c.Orient(local("192.1.2.45"), noRoute); err != nil {
		t.Fatal(err)
	}
	if got := o.RemoteID(); !got.Any {
		t.Errorf("remote id of a template %v", got)
	}
	c.Right.ID = ident.Pattern{ID: ident.ID{Type: iana.ID_FQDN, Data: "east"}}
	if got := o.RemoteID(); got.Any || got.ID.Data != "east" {
		t.Errorf("remote id %v", got)
	}
}

func TestStrings(t *testing.T) {
	c := sample()
	if got, want := c.String(), "192.0.1.0/24===192.1.2.45[@west]...192.1.2.23[@east]===192.0.2.0/24"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	c.Left.Subnets, c.Left.ID = nil, ident.Pattern{}
	c.Right = End{Host: Host{Kind: HostAny}, ID: ident.Pattern{Any: true}}
	if got, want := c.String(), "192.1.2.45...%any[%any]"; got != want {
		t.Errorf("%q, expected %q", got, want)
	}
	for want, h := range map[string]Host{
		"%any": {Kind: HostAny}, "%any6": {Kind: HostAny, Family: FamilyV6}, "%defaultroute": {Kind: HostDefaultRoute, Family: FamilyV4},
		"a.example.com": {Kind: HostName, Name: "a.example.com"}, "2001:db8::1": {Addr: addr("2001:db8::1")},
	} {
		if h.String() != want {
			t.Errorf("%q, expected %q", h, want)
		}
	}
	for want, s := range map[string]interface{ String() string }{"ondemand": AutoOnDemand, "fallback": TCPFallback, "yes": EncapYes, "passthrough": ShuntPass, "busy": CookieAlways, "9": Auto(9)} {
		if s.String() != want {
			t.Errorf("%q, expected %q", s, want)
		}
	}
}
