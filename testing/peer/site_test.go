package peer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
)

// site is a place where an ikegod and a strongSwan meet.
type site struct {
	ours, theirs gateway
}

// gateway is one end, with addresses of both versions of IP.
type gateway struct {
	host *netns.Host
	addr [2]string // its own: IPv4, IPv6
	seen [2]string // how the other end sees it
	in   [2]string // inside
	net  [2]string
}

var versions = [2]string{"4", "6"}

// sites are without a NAT, and with one before either end.
var sites = []struct {
	name string
	make func(*testing.T) site
}{
	{"direct", func(t *testing.T) site {
		_, west, east := netns.Gateways(t)
		return site{ours: plainGateway(west, 1, west6), theirs: plainGateway(east, 2, east6)}
	}},
	{"we-behind-nat", func(t *testing.T) site {
		road, east := behindNAT(t)
		return site{ours: road, theirs: east}
	}},
	{"strongswan-behind-nat", func(t *testing.T) site {
		road, east := behindNAT(t)
		return site{ours: east, theirs: road}
	}},
}

const (
	west6 = "2001:db8:1:2::45"
	east6 = "2001:db8:1:2::23"
)

// plainGateway is the gateway of inner network n (1 is west's, 2 east's).
func plainGateway(h *netns.Host, n int, addr6 string) gateway {
	g := gateway{
		host: h, addr: [2]string{map[int]string{1: netns.West, 2: netns.East}[n], addr6},
		in:  [2]string{fmt.Sprintf("192.0.%d.254", n), fmt.Sprintf("2001:db8:0:%d::254", n)},
		net: [2]string{fmt.Sprintf("192.0.%d.0/24", n), fmt.Sprintf("2001:db8:0:%d::/64", n)},
	}
	g.seen = g.addr
	return g
}

func behindNAT(t *testing.T) (road, east gateway) {
	t.Helper()
	netns.Need(t)
	l, r, _, e, err := netns.RoadEast()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	road = plainGateway(r, 1, "")
	road.addr, road.seen = [2]string{netns.Road, netns.Road6}, [2]string{netns.NIC, netns.NIC6}
	return road, plainGateway(e, 2, east6)
}

// tunnel is one connection between the ends of a site, in the words of both.
type tunnel struct {
	name         string
	outer, inner int // index of the version of IP
	ike, esp     string
	theirIKE     string
	theirESP     string
	ours, theirs []string // further lines of ipsec.conf, and of the connection in swanctl.conf
	ourTS        string   // what ikegod has for rightsubnet=, if not the peer's network
	theirTS      string   // strongSwan's remote_ts, if not ours
	anyPeer      bool     // right=%any
	auto         string   // auto=, if not add
	expect       []string // words of strongSwan's --list-sas
}

// conf is ipsec.conf of all tunnels.
func (s *site) conf(tunnels []tunnel) string {
	var b strings.Builder
	b.WriteString("config setup\n\tlisten-tcp=no\n")
	for _, u := range tunnels {
		right := s.theirs.seen[u.outer]
		if u.anyPeer {
			right = "%any"
		}
		b.WriteString("\nconn " + u.name + "\n")
		for _, line := range append([]string{
			"left=" + s.ours.addr[u.outer], "leftid=@ours-" + u.name, "leftsubnet=" + s.ours.net[u.inner],
			"right=" + right, "rightid=@theirs-" + u.name, "rightsubnet=" + orElse(u.ourTS, s.theirs.net[u.inner]),
			"authby=secret", "auto=" + orElse(u.auto, "add"), "retransmit-timeout=10s", "ike=" + u.ike, "esp=" + u.esp,
		}, u.ours...) {
			b.WriteString("\t" + line + "\n")
		}
	}
	return b.String()
}

// swanctl is swanctl.conf of the same.
func (s *site) swanctl(tunnels []tunnel) string {
	var b strings.Builder
	b.WriteString("connections {\n")
	for _, u := range tunnels {
		fmt.Fprintf(&b, `  %[1]s {
    version = 2
    local_addrs = %[2]s
    remote_addrs = %[3]s
    proposals = %[4]s
    %[5]s
    local {
      auth = psk
      id = theirs-%[1]s
    }
    remote {
      auth = psk
      id = ours-%[1]s
    }
    children {
      %[1]s {
        local_ts = %[6]s
        remote_ts = %[7]s
        esp_proposals = %[8]s
      }
    }
  }
`, u.name, s.theirs.addr[u.outer], s.ours.seen[u.outer], u.theirIKE, strings.Join(u.theirs, "\n    "), s.theirs.net[u.inner], orElse(u.theirTS, s.ours.net[u.inner]), u.theirESP)
	}
	b.WriteString("}\nsecrets {\n  ike-all {\n    secret = \"a secret that nobody guesses\"\n  }\n}\n")
	return b.String()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
