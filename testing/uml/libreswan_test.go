package uml_test

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/peer"
	"github.com/ikegod/ikegod/testing/uml"
)

const psk = ": PSK \"a secret that nobody guesses\"\n"

// libreswan is a need of tests: the packages, which are downloaded outside.
func libreswan() ([]string, error) {
	_, err := peer.FetchedLibreswan()
	return nil, err
}

// TestLibreswanItself shows that the harness works, so that a failure of the other tests is ours: two libreswans find each other by enable-tcp=fallback where UDP is
// dropped, and both kernels carry ESP in TCP.
func TestLibreswanItself(t *testing.T) {
	if uml.Outside(t, uml.Full, libreswan) {
		return
	}
	_, west, east := netns.Gateways(t)
	for _, h := range []*netns.Host{west, east} {
		if _, err := h.Block("udp", "meta l4proto udp"); err != nil {
			t.Fatal(err)
		}
	}
	conf := func(left, leftnet, right, rightnet string) string {
		return `config setup
	listen-tcp=yes
	ikev1-policy=drop

conn both
	left=` + left + `
	leftid=@` + left + `
	leftsubnet=` + leftnet + `
	right=` + right + `
	rightid=@` + right + `
	rightsubnet=` + rightnet + `
	authby=secret
	ikev2=insist
	enable-tcp=fallback
	retransmit-timeout=3s
	auto=add
`
	}
	e, err := peer.StartLibreswan(east, conf(netns.East, netns.EastNet, netns.West, netns.WestNet), psk)
	if err != nil {
		t.Fatal(err)
	}
	w, err := peer.StartLibreswan(west, conf(netns.West, netns.WestNet, netns.East, netns.EastNet), psk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("west:\n%s\neast:\n%s", w.Log(), e.Log())
		}
	})
	out, err := w.Begin("both")
	t.Logf("up: %v\n%s", err, out)
	netns.Until(t, patience, "a Child SA after the fallback", func() bool { return strings.Contains(w.Log(), "established Child SA") })
	if out, err := west.Output("ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Errorf("ping: %v: %s", err, out)
	}
	for _, h := range []*netns.Host{west, east} {
		out, err := h.Output("ip", "xfrm", "state")
		if err != nil || strings.Count(out, "encap type espintcp") != 2 {
			t.Errorf("%s has not two states with espintcp: %v\n%s", h.Name, err, out)
		}
	}
	if out, err := w.End("both"); err != nil {
		t.Errorf("down: %v\n%s", err, out)
	}
	netns.Until(t, patience, "east has no states after the delete", func() bool {
		out, err := east.Output("ip", "xfrm", "state")
		return err == nil && out == ""
	})
}

// startLibreswan gives libreswan the same ipsec.conf as ikegod, seen from its end.
func startLibreswan(s scenario, here, there end) (other, error) {
	conf := s.conf(here, there)
	if s.transport && s.carrier == "ESPinTCP" {
		conf += exempt("ours", here.addr, "tcp", there.seen, "tcp/4500") + exempt("theirs", here.addr, "tcp/4500", there.seen, "tcp")
	}
	return peer.StartLibreswan(here.host, conf, psk)
}

// exempt is a connection that lets packets of IKE's TCP connections pass in clear. In transport mode libreswan 4.10 needs it (docs/interop.md): it leaves a trap
// when the Child SA is gone, and that takes the SYN of the next TCP connection, and what is left to say on the last one.
func exempt(name, left, leftport, right, rightport string) string {
	return "\nconn " + name + "\n\t" + strings.Join([]string{
		"left=" + left, "leftprotoport=" + leftport, "right=" + right, "rightprotoport=" + rightport, "type=passthrough", "authby=never", "auto=ondemand",
	}, "\n\t") + "\n"
}

// TestLibreswan meets libreswan 4.10, which has its ESP in the kernel, in every scenario.
func TestLibreswan(t *testing.T) {
	everywhere(t, opponent{
		need: libreswan, start: startLibreswan, fits: func(scenario) bool { return true }, load: 20 * megabytes, keeps: true,
		always: []string{"userspace-fallback", "xfrm-tcp"},
	})
}
