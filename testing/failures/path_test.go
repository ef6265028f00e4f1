package failures

import (
	"context"
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/testing/simnet"
	"github.com/ikegod/ikegod/transport"
)

// blocked lets a firewall drop datagrams before up.
func blocked(f simnet.Faults) func(*situation) {
	f.Delay = 10 * time.Millisecond
	return func(s *situation) {
		s.Net.SetFaults(f)
		up(s)
	}
}

var paths = []row{
	{
		name: "no-connection-for-the-address", east: []string{"left=192.1.2.99"},
		onWest: tells("ike=", "west.conf:9", "NO_PROPOSAL_CHOSEN", "or has no connection for our address"),
		onEast: tells("left=", "east.conf:2", "192.1.2.99", "192.1.2.45", "no connection for these addresses"),
	},
	{
		name: "tcp-refused", west: []string{"enable-tcp=yes", "tcp-remoteport=4500"},
		onWest: tells("tcp-remoteport=", "west.conf:13", "192.1.2.23:TCP/4500", "connection refused", "enable-tcp= of west.conf:11", "listen-tcp="),
		onEast: cannot("its kernel refuses", ""),
	},
	{
		name: "udp-silent", act: blocked(simnet.Faults{BlockUDP: true}),
		onWest: tells("enable-tcp=", "west.conf:11", "192.1.2.23:UDP/500", "UDP may be blocked"),
		onEast: cannot(silent, ""),
	},
	{
		name: "udp-and-tcp-silent", west: []string{"enable-tcp=fallback"}, act: blocked(simnet.Faults{BlockUDP: true, BlockTCP: true}),
		onWest: tells("enable-tcp=", "west.conf:11", "192.1.2.23:TCP/4500", "no answer"),
		onEast: cannot(silent, ""),
	},
	{
		name: "template-cannot-be-brought-up", west: []string{"right=%any"},
		onWest: tells("right=", "west.conf:5", "%any", "waits for peers"),
		onEast: cannot(silent, ""),
	},
	{
		name: "neither-end-is-us", west: []string{"left=192.1.2.99"},
		onWest: tells("left=", "west.conf:2", "192.1.2.99", "right=192.1.2.23 (west.conf:5)", "neither"),
		onEast: cannot(silent, ""),
	},
	{
		name: "both-ends-are-us", west: []string{"right=192.1.2.45"},
		onWest: tells("right=", "west.conf:5", "192.1.2.45", "left= and right= are the same address"),
		onEast: cannot(silent, ""),
	},
	{
		name: "name-not-resolved", west: []string{"right=east.example.org"},
		onWest: tells("right=", "west.conf:5", "east.example.org", "not resolved"),
		onEast: cannot(silent, ""),
	},
}

// peer answers west in place of east's engine, as somebody may whose program is at fault.
type peer struct {
	host   *simnet.Host
	answer func(h wire.Header) []wire.Item
}

func (p *peer) IKE(d transport.Datagram) bool {
	h, err := wire.ParseHeader(d.Data)
	if err != nil || h.Response() {
		return true
	}
	h.Flags = wire.FlagResponse
	m := wire.Message{Header: h, Payloads: p.answer(h)}
	_ = p.host.Send(d.Path, m.AppendTo(nil))
	return true
}

func (*peer) Accepted(path.Path)    {}
func (*peer) Lost(path.Path, error) {}

// answered lets a peer answer every IKE_SA_INIT request with a notification.
func answered(n iana.Notify, data func(count byte) []byte) func(*situation) {
	return func(s *situation) {
		count := byte(0)
		s.East.Host.Start(&peer{s.East.Host, func(wire.Header) []wire.Item {
			count++
			return []wire.Item{{Payload: wire.Notify{Notify: n, Data: data(count)}}}
		}}, 4500)
		up(s)
	}
}

// sends lets west's host send octets to east, and starts nothing.
func sends(data []byte) func(*situation) {
	return func(s *situation) {
		p := path.Path{
			Local: netip.AddrPortFrom(simnet.WestAddr, iana.PortIKE), Remote: netip.AddrPortFrom(simnet.EastAddr, iana.PortIKE), Kind: path.UDP,
		}
		if err := s.West.Host.Send(p, data); err != nil {
			s.west = append(s.west, err.Error())
		}
	}
}

func initRequest(change func(*wire.Header), items ...wire.Item) []byte {
	h := wire.Header{InitiatorSPI: 1, MajorVersion: 2, Exchange: iana.IKE_SA_INIT, Flags: wire.FlagInitiator}
	m := wire.Message{Header: h, Payloads: items}
	b := m.AppendTo(nil)
	if change != nil {
		parsed, err := wire.ParseHeader(b)
		if err != nil {
			return nil
		}
		change(&parsed)
		return append(parsed.AppendTo(nil), b[wire.HeaderLen:]...)
	}
	return b
}

const forgedByTest = "the test sends it, no ikegod"

var hostile = []row{
	{
		name: "cookie-loop", act: answered(iana.COOKIE, func(n byte) []byte { return []byte{n, 1, 2, 3, 4, 5, 6, 7} }),
		onWest: cannot("the peer is at fault, nothing here can be changed", "192.1.2.23:UDP/500 asked for another cookie 6 times and never took one"),
		onEast: cannot(forgedByTest, ""),
	},
	{
		name: "invalid-ke-for-what-was-not-offered", act: answered(iana.INVALID_KE_PAYLOAD, func(byte) []byte { return []byte{0, 14} }),
		onWest: tells("ike=", "west.conf:9", "MODP2048 (DH14)", "AES_GCM_16_256-HMAC_SHA2_256-CURVE25519"),
		onEast: cannot(forgedByTest, ""),
	},
	{
		name: "invalid-ke-loop", west: []string{"ike=aes_gcm256-sha2_256-dh31+dh19+dh20+dh21"},
		act:    answered(iana.INVALID_KE_PAYLOAD, func(n byte) []byte { return []byte{0, []byte{19, 20, 21, 31}[n%4]} }),
		onWest: tells("ike=", "west.conf:9", "AES_GCM_16_256-HMAC_SHA2_256-CURVE25519+DH19+DH20+DH21", "another key exchange 6 times"),
		onEast: cannot(forgedByTest, ""),
	},
	{
		name: "peer-does-not-speak-ikev2", act: answered(iana.INVALID_MAJOR_VERSION, func(byte) []byte { return nil }),
		onWest: cannot("the peer is at fault, nothing here can be changed", "INVALID_MAJOR_VERSION: the peer does not speak IKEv2"),
		onEast: cannot(forgedByTest, ""),
	},
	{
		name: "ikev1-peer", act: sends(initRequest(func(h *wire.Header) { h.MajorVersion = 1 })),
		onWest: cannot(forgedByTest, ""),
		onEast: cannot("the setting is at the peer", "from 192.1.2.45:UDP/500 to 192.1.2.23:500 (major version): it is IKEv1, expected IKEv2 (major version 2); set keyexchange=ikev2 at the peer"),
	},
	{
		name: "critical-payload", act: sends(initRequest(nil, wire.Item{Payload: wire.Unknown{PayloadType: 200, Data: []byte{1}}, Critical: true})),
		onWest: cannot(forgedByTest, ""),
		onEast: cannot("the setting is at the peer", "payload type 200 is critical and not supported here; sent UNSUPPORTED_CRITICAL_PAYLOAD to 192.1.2.45:UDP/500"),
	},
	{
		name: "malformed-payload", act: sends(initRequest(nil, wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}})),
		onWest: cannot(forgedByTest, ""),
		onEast: cannot("the peer is at fault, nothing here can be changed", "IKE_SA_INIT request is malformed: no SA payload; sent INVALID_SYNTAX to 192.1.2.45:UDP/500"),
	},
	{
		name: "not-for-us-any-more", act: sends(initRequest(func(h *wire.Header) { h.Exchange, h.ResponderSPI = iana.INFORMATIONAL, 0x4242 })),
		onWest: cannot(forgedByTest, ""),
		onEast: cannot("nothing is known about the peer", "unknown SPI): no IKE SA of ours has this SPI"),
	},
	{
		name: "mistyped-name", act: func(s *situation) {
			if err := s.West.Engine.Up(context.Background(), "west-esat", nil); err != nil {
				s.west = append(s.west, err.Error())
			}
		},
		onWest: cannot("no setting is wrong, the operator's word is", `"west-esat" is loaded; did you mean west-east?`),
		onEast: cannot(silent, ""),
	},
}
