package twosa

import (
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/subnets"
)

// Addresses of the test bench.
var (
	WestAddr = netip.MustParseAddr("192.1.2.45")
	EastAddr = netip.MustParseAddr("192.1.2.23")
)

// Secret is the pre-shared key of Pair.
const Secret = "a secret of a hundred and twenty eight bits or more"

// Connection is the connection of the tests: west and east with pre-shared keys, a subnet behind each, UDP and then TCP.
func Connection() *policy.Connection {
	left, right := TS("192.0.1.0/24"), TS("192.0.2.0/24")
	return &policy.Connection{
		Name:     "west-east",
		Position: "ipsec.conf:4", Positions: map[string]string{"authby": "ipsec.conf:11", "ike": "ipsec.conf:12"},
		Left: policy.End{
			Host: policy.Host{Addr: WestAddr}, ID: ident.Pattern{ID: ID("@west")}, Auth: iana.AuthSharedKey, Subnets: left,
			Positions: map[string]string{"leftid": "ipsec.conf:6", "leftsubnet": "ipsec.conf:7"},
		},
		Right: policy.End{
			Host: policy.Host{Addr: EastAddr}, ID: ident.Pattern{ID: ID("@east")}, Auth: iana.AuthSharedKey, Subnets: right,
			Positions: map[string]string{"rightid": "ipsec.conf:9", "rightsubnet": "ipsec.conf:10"},
		},
		IKE:          IKE("aes_gcm256-sha2_512-dh31"),
		Children:     []policy.Child{{Name: "west-east", ESP: ESP("aes_gcm256"), Left: left, Right: right, ReplayWindow: 128}},
		TCP:          policy.TCP{Mode: policy.TCPFallback, RemotePort: iana.PortIKENATT},
		Retransmit:   policy.Retransmit{Interval: 500 * time.Millisecond, Timeout: 30 * time.Second},
		NATKeepAlive: true,
	}
}

// Oriented is c as west (left) or east (right) sees it.
func Oriented(c *policy.Connection, west bool) *policy.Oriented {
	o := &policy.Oriented{Connection: c, Local: &c.Left, Remote: &c.Right, LocalAddr: WestAddr, RemoteAddr: EastAddr, LeftIsLocal: true}
	if !west {
		o.Local, o.Remote, o.LocalAddr, o.RemoteAddr, o.LeftIsLocal = o.Remote, o.Local, EastAddr, WestAddr, false
	}
	return o
}

// Pair is a world whose hosts have Connection, each changed by its own function (nil: not), and the same secret.
func Pair(seed uint64, west, east func(*policy.Connection)) *World {
	w := New(seed)
	for _, h := range []*Host{w.West, w.East} {
		c := Connection()
		change := west
		if h == w.East {
			change = east
		}
		if change != nil {
			change(c)
		}
		h.Conn = Oriented(c, h == w.West)
		h.Secrets = Store(Secret)
	}
	w.East.Candidates = []*policy.Oriented{w.East.Conn}
	return w
}

// Store is an ipsec.secrets with one secret for everybody.
func Store(secret string) *auth.Store {
	return auth.NewStore([]auth.Secret{{Key: []byte(secret), Position: "ipsec.secrets:3"}})
}

// ID is an identity as ipsec.conf writes it.
func ID(s string) ident.ID {
	id, err := ident.Parse(s)
	if err != nil {
		panic(err)
	}
	return id
}

// IKE is the value of ike=.
func IKE(s string) suite.Proposals {
	p, err := suite.ParseIKE(s)
	if err != nil {
		panic(err)
	}
	return p
}

// ESP is the value of esp=, with ESN if the peer can.
func ESP(s string) suite.Proposals {
	p, err := suite.ParseESP(s, []iana.SN{iana.SN_ESN, iana.SN_32})
	if err != nil {
		panic(err)
	}
	return p
}

// TS is a list of subnets.
func TS(list ...string) ts.Set { return subnets.Of(list...) }
