package main

import (
	"net/netip"
	"testing"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/policy"
)

// TestConnectionInPart: how many Child SAs of a connection are up is told beside its state.
func TestConnectionInPart(t *testing.T) {
	conn := &policy.Connection{Name: "site", Children: []policy.Child{{Name: "site/1x1"}, {Name: "site/2x1"}, {Name: "site/3x1"}}}
	oriented := &policy.Oriented{
		Connection: conn, Local: &conn.Left, Remote: &conn.Right, LocalAddr: netip.MustParseAddr("192.0.2.1"), RemoteAddr: netip.MustParseAddr("192.0.2.2"),
		LeftIsLocal: true,
	}
	for _, tc := range []struct {
		up   []bool
		want int
	}{{nil, 0}, {[]bool{false, true, false}, 1}, {[]bool{true, true, true}, 3}} {
		if c := ctlConnection(engine.ConnectionStatus{Name: "site", State: "up", Conn: conn, Oriented: oriented, ChildUp: tc.up}); c.ChildrenUp != tc.want || len(c.Children) != 3 {
			t.Errorf("%v: %+v", tc.up, c)
		}
	}
}
