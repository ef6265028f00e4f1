package policy

import (
	"strings"
	"testing"
)

// TestPorts: where the first message leaves from and goes to, and which ports are one's own.
func TestPorts(t *testing.T) {
	for _, tc := range []struct {
		local, remote, tcp          uint16
		fromUDP, toUDP, toTCP, owns uint16
		inUDP                       bool
	}{
		{0, 0, 0, 500, 500, 4500, 0, false},
		{0, 0, 443, 500, 500, 443, 0, false},
		{7000, 0, 0, 7000, 4500, 4500, 7000, true},
		{0, 7001, 0, 4500, 7001, 7001, 0, true},
		{7000, 7001, 0, 7000, 7001, 7001, 7000, true},
		{7000, 7001, 443, 7000, 7001, 443, 7000, true},
		{4500, 0, 0, 4500, 4500, 4500, 0, false},
		{0, 4500, 0, 4500, 4500, 4500, 0, false},
		{4500, 7001, 0, 4500, 7001, 7001, 0, true},
	} {
		c := &Connection{TCP: TCP{RemotePort: tc.tcp}}
		c.Left.IKEPort, c.Right.IKEPort = tc.local, tc.remote
		o := &Oriented{Connection: c, Local: &c.Left, Remote: &c.Right, LeftIsLocal: true}
		from, to := o.UDPPorts()
		if from != tc.fromUDP || to != tc.toUDP || o.TCPPort() != tc.toTCP || o.Local.OwnPort() != tc.owns || o.InUDP() != tc.inUDP {
			t.Errorf("%+v: UDP from %d to %d, TCP to %d, own %d, in UDP %v", tc, from, to, o.TCPPort(), o.Local.OwnPort(), o.InUDP())
		}
		if c.Encapsulation = EncapNo; o.InUDP() {
			t.Errorf("%+v: ESP in UDP with encapsulation=no", tc)
		}
	}
}

// TestApart: connections on different sockets, or with different datapaths, do not share an IKE SA.
func TestApart(t *testing.T) {
	of := func(port uint16, b Backend) *Oriented {
		c := &Connection{Position: "ipsec.conf:4", Backend: b}
		c.Left.IKEPort, c.Left.Positions = port, map[string]string{"leftikeport": "ipsec.conf:9"}
		return &Oriented{Connection: c, Local: &c.Left, Remote: &c.Right, LeftIsLocal: true}
	}
	for _, tc := range []struct {
		a, b *Oriented
		want string
	}{
		{of(0, BackendAuto), of(4500, BackendXFRM), ""},
		{of(7000, BackendAuto), of(7000, BackendAuto), ""},
		{of(7000, BackendAuto), of(0, BackendAuto), "leftikeport= of ipsec.conf:9"},
		{of(0, BackendAuto), of(7000, BackendAuto), "leftikeport= of ipsec.conf:9"},
		{of(0, BackendUserspace), of(0, BackendAuto), "backend="},
	} {
		if got := tc.a.Apart(tc.b); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}
