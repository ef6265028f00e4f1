package wire_test

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// everything is messages that together hold every payload there is.
func everything() []wire.Message {
	var all []wire.Item
	for _, c := range golden {
		all = append(all, c.want...)
	}
	h := wire.Header{InitiatorSPI: 1, ResponderSPI: 2, MajorVersion: 2, Exchange: iana.IKE_AUTH, Flags: wire.FlagInitiator, MessageID: 1}
	return []wire.Message{
		{Header: h, Payloads: all},
		{Header: h, Payloads: append(slices.Clip(all), wire.Item{Payload: wire.SK{Next: iana.PayloadIDi, Data: span(40)}})},
		{Header: h, Payloads: []wire.Item{{Payload: wire.SK{Data: span(40)}}}},
		{Header: h, Payloads: []wire.Item{{Payload: wire.SKF{Next: iana.PayloadIDi, Number: 1, Total: 9, Data: span(40)}}}},
	}
}

// generator makes random values that the codec must carry, known numbers and unknown ones.
type generator struct{ *rand.Rand }

func (g generator) octets(atMost int) []byte {
	n := g.IntN(atMost + 1)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g generator) transform() wire.Transform {
	t := wire.Transform{Type: iana.TransformType(g.Uint32()), ID: uint16(g.Uint32())}
	for range g.IntN(3) {
		if a := (wire.Attribute{Type: uint16(g.Uint32()) & 0x7fff}); g.IntN(2) == 0 {
			a.Short, a.Value = true, uint16(g.Uint32())
			t.Attributes = append(t.Attributes, a)
		} else {
			a.Data = g.octets(5)
			t.Attributes = append(t.Attributes, a)
		}
	}
	return t
}

func (g generator) sa() wire.SA {
	var sa wire.SA
	for i := range 1 + g.IntN(4) {
		p := wire.Proposal{Number: uint8(i + 1), Protocol: iana.Protocol(g.Uint32()), SPI: g.octets(8)}
		for range 1 + g.IntN(6) {
			p.Transforms = append(p.Transforms, g.transform())
		}
		sa.Proposals = append(sa.Proposals, p)
	}
	return sa
}

func (g generator) selector() wire.Selector {
	s := wire.Selector{IPProtocol: uint8(g.Uint32())}
	size := 0
	switch g.IntN(3) {
	case 0:
		s.TSType, size = iana.TS_IPV4_ADDR_RANGE, 4
	case 1:
		s.TSType, size = iana.TS_IPV6_ADDR_RANGE, 16
	default:
		s.TSType = iana.TSType(9 + g.IntN(240))
		s.Raw = g.octets(20)
		return s
	}
	b := make([]byte, 2*size)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	s.Start, _ = netip.AddrFromSlice(b[:size])
	s.End, _ = netip.AddrFromSlice(b[size:])
	s.StartPort, s.EndPort = uint16(g.Uint32()), uint16(g.Uint32())
	return s
}

func (g generator) ts(t iana.Payload) wire.TS {
	p := wire.TS{Payload: t}
	for range 1 + g.IntN(4) {
		p.Selectors = append(p.Selectors, g.selector())
	}
	return p
}

func (g generator) deletion() wire.Delete {
	d := wire.Delete{Protocol: iana.Protocol(g.Uint32()), SPISize: uint8(g.IntN(9))}
	if d.SPISize == 0 {
		return d
	}
	for range g.IntN(4) {
		spi := make([]byte, d.SPISize)
		for i := range spi {
			spi[i] = byte(g.Uint32())
		}
		d.SPIs = append(d.SPIs, spi)
	}
	return d
}

func (g generator) payload() wire.Payload {
	switch g.IntN(15) {
	case 0:
		return g.sa()
	case 1:
		return wire.KE{Method: iana.KE(g.Uint32()), Data: g.octets(40)}
	case 2:
		return wire.ID{Payload: iana.PayloadIDi, IDType: iana.IDType(g.Uint32()), Data: g.octets(40)}
	case 3:
		return wire.ID{Payload: iana.PayloadIDr, IDType: iana.IDType(g.Uint32()), Data: g.octets(40)}
	case 4:
		return wire.Cert{Encoding: iana.CertEncoding(g.Uint32()), Data: g.octets(40)}
	case 5:
		return wire.CertReq{Encoding: iana.CertEncoding(g.Uint32()), Data: g.octets(40)}
	case 6:
		return wire.Auth{Method: iana.AuthMethod(g.Uint32()), Data: g.octets(40)}
	case 7:
		return wire.Nonce{Data: append(span(16), g.octets(240)...)}
	case 8:
		return wire.Notify{Protocol: iana.Protocol(g.Uint32()), SPI: g.octets(9), Notify: iana.Notify(g.Uint32()), Data: g.octets(40)}
	case 9:
		return g.deletion()
	case 10:
		return wire.VendorID{Data: g.octets(40)}
	case 11:
		return g.ts(iana.PayloadTSi)
	case 12:
		return g.ts(iana.PayloadTSr)
	case 13:
		cp := wire.CP{CFGType: iana.CFGType(g.Uint32())}
		for range g.IntN(5) {
			cp.Attributes = append(cp.Attributes, wire.CFGAttribute{Type: iana.CFGAttr(g.Uint32()) & 0x7fff, Data: g.octets(20)})
		}
		return cp
	}
	if g.IntN(2) == 0 {
		body := g.octets(20)
		return wire.EAP{Data: append([]byte{1, byte(g.Uint32()), 0, byte(4 + len(body))}, body...)}
	}
	return wire.Unknown{PayloadType: iana.Payload(54 + g.IntN(202)), Data: g.octets(40)}
}

func (g generator) message() wire.Message {
	m := wire.Message{Header: wire.Header{
		InitiatorSPI: wire.SPI(g.Uint64()), ResponderSPI: wire.SPI(g.Uint64()), MajorVersion: 2, MinorVersion: uint8(g.IntN(16)),
		Exchange: iana.Exchange(g.Uint32()), Flags: wire.Flags(g.Uint32()), MessageID: g.Uint32(),
	}}
	for range g.IntN(8) {
		m.Payloads = append(m.Payloads, wire.Item{Payload: g.payload(), Critical: g.IntN(4) == 0})
	}
	switch g.IntN(4) {
	case 0:
		m.Payloads = append(m.Payloads, wire.Item{Payload: wire.SK{Next: iana.Payload(g.Uint32()), Data: g.octets(60)}})
	case 1:
		total := uint16(1 + g.IntN(65535))
		m.Payloads = append(m.Payloads, wire.Item{Payload: wire.SKF{
			Next: iana.Payload(g.Uint32()), Number: uint16(1 + g.IntN(int(total))), Total: total, Data: g.octets(60),
		}})
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(7296, 3))}
	for range 20000 {
		want := g.message()
		b := want.AppendTo(nil)
		if len(b) != wire.HeaderLen+wire.ChainLen(want.Payloads) {
			t.Fatalf("%d octets appended, ChainLen says %d, of %+v", len(b)-wire.HeaderLen, wire.ChainLen(want.Payloads), want)
		}
		got, err := wire.Parse(b)
		if err != nil {
			t.Fatalf("%v, of %+v as %x", err, want, b)
		}
		want.Header.NextPayload, want.Header.Length = wire.First(want.Payloads), uint32(len(b))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if again := got.AppendTo(nil); string(again) != string(b) {
			t.Fatalf("appended again\n %x, first\n %x", again, b)
		}
	}
}

// TestReservedIsIgnored sets every RESERVED octet and bit of a message: it means the same (RFC 7296 2.5).
func TestReservedIsIgnored(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(2, 5))}
	for range 5000 {
		m := g.message()
		clean := m.AppendTo(nil)
		dirty := append([]byte(nil), clean...)
		eachReserved(dirty, func(i int, mask byte) { dirty[i] |= mask & byte(g.Uint32()) })
		want, err := wire.Parse(clean)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.Parse(dirty)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
		}
	}
}

// TestParsedSlicesEnd shows that a value whose slices alias a packet cannot write into it by an append.
func TestParsedSlicesEnd(t *testing.T) {
	m := everything()[0]
	b := m.AppendTo(nil)
	got, err := wire.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	before := string(b)
	n, _ := wire.Get[wire.KE](got.Payloads)
	_ = append(n.Data, 0xee)
	id, _ := wire.Get[wire.ID](got.Payloads)
	_ = append(id.Data, 0xee)
	sa, _ := wire.Get[wire.SA](got.Payloads)
	_ = append(sa.Proposals[0].SPI, 0xee)
	if string(b) != before {
		t.Error("an append to a parsed slice has written into the packet")
	}
}

func TestWrongFamily(t *testing.T) {
	v6, v4 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")
	p := wire.TS{Payload: iana.PayloadTSi, Selectors: []wire.Selector{
		{TSType: iana.TS_IPV4_ADDR_RANGE, Start: v6, End: v4},
		{TSType: iana.TS_IPV6_ADDR_RANGE, Start: v4},
	}}
	b := p.AppendTo(nil)
	if len(b) != p.Len() {
		t.Fatalf("%d octets, Len says %d", len(b), p.Len())
	}
	items, err := wire.ParseChain(iana.PayloadTSi, wire.AppendChain(nil, []wire.Item{{Payload: p}}), 0)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := wire.Get[wire.TS](items)
	if got.Selectors[0].Start != netip.IPv4Unspecified() || got.Selectors[0].End != v4 || got.Selectors[1].Start != netip.IPv6Unspecified() {
		t.Errorf("got %+v", got)
	}
}
