package engine

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

const i, rsp = wire.FlagInitiator, wire.FlagResponse

// TestDropped: what is not for us is dropped for the right reason, counted, and told in words.
func TestDropped(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		why  event.Drop
		says string
	}{
		{"empty", nil, event.DropShort, "28 octets"},
		{"cut header", header(wire.Header{InitiatorSPI: 1})[:27], event.DropShort, "28 octets"},
		{"more than its length", append(header(wire.Header{InitiatorSPI: 1, Flags: i}), 0), event.DropLength, "length"},
		{"IKEv1", header(wire.Header{InitiatorSPI: 1, MajorVersion: 1}), event.DropMajorVersion, "it is IKEv1"},
		{"unknown responder SPI", header(wire.Header{InitiatorSPI: 1, ResponderSPI: 99, Exchange: iana.INFORMATIONAL, Flags: i}), event.DropUnknownSPI, "no IKE SA of ours"},
		{"unknown initiator SPI", header(wire.Header{InitiatorSPI: 1, ResponderSPI: 99, Exchange: iana.IKE_SA_INIT, Flags: rsp}), event.DropUnknownSPI, "no IKE SA of ours"},
		{"no SPI at all", header(wire.Header{ResponderSPI: 99, Flags: rsp}), event.DropUnknownSPI, ""},
		{"IKE_AUTH without responder SPI", header(wire.Header{InitiatorSPI: 1, Exchange: iana.IKE_AUTH, Flags: i}), event.DropNotInitiator, "not an IKE_SA_INIT request"},
		{"IKE_SA_INIT with message ID 1", header(wire.Header{InitiatorSPI: 1, Exchange: iana.IKE_SA_INIT, Flags: i, MessageID: 1}), event.DropNotInitiator, ""},
		{"IKE_SA_INIT response of an initiator", header(wire.Header{InitiatorSPI: 1, Exchange: iana.IKE_SA_INIT, Flags: i | rsp}), event.DropNotInitiator, ""},
		{"IKE_SA_INIT with SPI zero", header(wire.Header{Exchange: iana.IKE_SA_INIT, Flags: i}), event.DropNotInitiator, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
				if !r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: c.data, At: time.Now()}) {
					t.Error("the transport is to count it as its own drop")
				}
				if n := r.drops(c.why); n != 1 {
					t.Errorf("%d drops for %s: %v", n, c.why, r.e.Stats().Drops)
				}
				told := r.told(event.KindDrop)
				if len(told) != 1 || told[0].Level < event.Info || !strings.Contains(told[0].Text, "192.1.2.45:UDP/500") || !strings.Contains(told[0].Text, c.says) {
					t.Errorf("told: %+v", told)
				}
				if got := r.mux.replies(t); len(got) != 0 {
					t.Errorf("answered: %+v", got)
				}
			})
		})
	}
}

// TestMajorVersion: a higher version is told ours, at a limited rate, and only for a request.
func TestMajorVersion(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		h := wire.Header{InitiatorSPI: 0x1122, ResponderSPI: 0x3344, MajorVersion: 3, Exchange: iana.IKE_AUTH, Flags: i, MessageID: 7}
		r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: header(h)})
		h.Flags = rsp
		r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: header(h)})
		got := r.mux.replies(t)
		if len(got) != 1 {
			t.Fatalf("%d replies", len(got))
		}
		m := got[0]
		if notifyOf(t, m).Notify != iana.INVALID_MAJOR_VERSION || m.Header.MajorVersion != 2 || !m.Header.Response() || m.Header.InitiatorSPI != 0x1122 ||
			m.Header.ResponderSPI != 0x3344 || m.Header.MessageID != 7 || m.Header.Exchange != iana.IKE_AUTH {
			t.Errorf("%+v", m)
		}
		h.Flags = i
		for range 10000 {
			r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: header(h)})
		}
		if n := len(r.mux.replies(t)); n > replyBurst {
			t.Errorf("%d replies to a flood", n)
		}
		if n := len(r.told(event.KindDrop)); n > reportBurst {
			t.Errorf("%d lines about a flood", n)
		}
	})
}

// TestSuspectDrops: what a machine drops because somebody has changed or forged it is told at the default log level, at a limited rate; a repetition is not.
func TestSuspectDrops(t *testing.T) {
	do := func(m *script, in machine.Input) []machine.Effect {
		d, ok := in.(machine.Datagram)
		if !ok {
			return nil
		}
		if len(m.inputs) == 1 {
			return []machine.Effect{authentic(m, d.Path)}
		}
		why := event.DropIntegrity
		if len(m.inputs) == 2 {
			why = event.DropDuplicate
		}
		return []machine.Effect{machine.Emit{Event: event.Event{Level: event.Debug, Kind: event.KindDrop, Path: d.Path, Text: why.String(), Drop: why}}}
	}
	inRig(t, policy.Setup{}, do, func(t *testing.T, r *rig) {
		r.stranger(1)
		for range 1000 {
			r.to(r.machines()[0], udp("192.1.2.45:4500"))
		}
		lines := 0
		for _, ev := range r.told(event.KindDrop) {
			if ev.Level < event.Info {
				continue
			}
			if lines++; ev.Drop != event.DropIntegrity || !strings.Contains(ev.Text, "192.1.2.45:UDP/4500") || !strings.Contains(ev.Text, "does not authenticate") {
				t.Errorf("%+v", ev)
			}
		}
		if lines == 0 || lines > reportBurst || r.drops(event.DropIntegrity) != 999 {
			t.Errorf("%d lines about %d drops", lines, r.drops(event.DropIntegrity))
		}
	})
}

// TestFloodAllocatesNothing: garbage costs no memory.
func TestFloodAllocatesNothing(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		for name, data := range map[string][]byte{
			"short": make([]byte, 20), "IKEv1": header(wire.Header{InitiatorSPI: 1, MajorVersion: 1}),
			"not initial": header(wire.Header{InitiatorSPI: 1, Exchange: iana.IKE_AUTH, Flags: i}),
		} {
			d := transport.Datagram{Path: udp("192.1.2.45:500"), Data: data, At: time.Now()}
			for range 2 * reportBurst {
				r.e.IKE(d)
			}
			if n := testing.AllocsPerRun(1000, func() { r.e.IKE(d) }); n > 0 {
				t.Errorf("%s: %.1f allocations for each", name, n)
			}
		}
	})
}

func TestNoConnection(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		r.e.IKE(transport.Datagram{Path: udp("203.0.113.9:500"), Data: initRequest(1, nil)})
		got := r.mux.replies(t)
		if len(got) != 1 || notifyOf(t, got[0]).Notify != iana.NO_PROPOSAL_CHOSEN || got[0].Header.InitiatorSPI != 1 || got[0].Header.ResponderSPI != 0 {
			t.Errorf("%+v", got)
		}
		text := ""
		for _, ev := range r.told(event.KindNote) {
			text += ev.Text
		}
		for _, want := range []string{"203.0.113.9:UDP/500", "192.1.2.23:500", `"west-east" 192.1.2.23...192.1.2.45`} {
			if !strings.Contains(text, want) {
				t.Errorf("the operator does not read %q: %s", want, text)
			}
		}
		if len(r.machines()) != 0 {
			t.Error("a stranger has got a machine")
		}
	})
}

// TestRepeat: the same octets from the same address go to the same IKE SA (RFC 7296 2.1); others make their own.
func TestRepeat(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		data := initRequest(1, nil)
		for range 3 {
			r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: data})
		}
		if m := r.machines(); len(m) != 1 || len(m[0].inputs) != 3 {
			t.Errorf("%d machines", len(m))
		}
		r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: initRequest(2, nil)})
		if m := r.machines(); len(m) != 2 {
			t.Errorf("%d machines", len(m))
		}
		if n := r.e.Stats().HalfOpen; n != 2 {
			t.Errorf("%d half-open", n)
		}
	})
}

// TestHalfOpenLimit: strangers get no more machines than allowed, and room again when one ends.
func TestHalfOpenLimit(t *testing.T) {
	ends := func(m *script, in machine.Input) []machine.Effect {
		if _, ok := in.(machine.Tick); ok {
			return []machine.Effect{machine.Close{Close: event.Close{Reason: event.ReasonHalfOpenTimeout}}}
		}
		m.deadline = time.Now().Add(halfOpenTime)
		return nil
	}
	inRig(t, policy.Setup{MaxHalfOpen: 5, CookieMode: policy.CookieNever}, ends, func(t *testing.T, r *rig) {
		for spi := range wire.SPI(20) {
			r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: initRequest(spi+1, nil)})
		}
		if n := len(r.machines()); n != 5 || r.drops(event.DropHalfOpen) != 15 {
			t.Errorf("%d machines, %d drops", n, r.drops(event.DropHalfOpen))
		}
		time.Sleep(halfOpenTime + time.Second)
		if s := r.e.Stats(); s.HalfOpen != 0 || s.IKESAs != 0 {
			t.Errorf("%+v", s)
		}
		r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: initRequest(99, nil)})
		if n := len(r.machines()); n != 6 {
			t.Errorf("%d machines", n)
		}
	})
}

// TestCookieExchange: above the threshold a stranger proves its address first; a cookie of another does not help; TCP is not asked.
func TestCookieExchange(t *testing.T) {
	inRig(t, policy.Setup{CookieThreshold: 1, MaxHalfOpen: 100}, nil, func(t *testing.T, r *rig) {
		from := udp("192.1.2.45:500")
		r.e.IKE(transport.Datagram{Path: from, Data: initRequest(1, nil)})
		if len(r.machines()) != 1 || len(r.mux.replies(t)) != 0 {
			t.Fatal("a cookie below the threshold")
		}
		r.e.IKE(transport.Datagram{Path: from, Data: initRequest(2, nil)})
		got := r.mux.replies(t)
		if len(got) != 1 || len(r.machines()) != 1 {
			t.Fatalf("%d replies, %d machines", len(got), len(r.machines()))
		}
		n := notifyOf(t, got[0])
		if n.Notify != iana.COOKIE || got[0].Header.ResponderSPI != 0 || len(got[0].Payloads) != 1 {
			t.Fatalf("%+v", got[0])
		}
		r.e.IKE(transport.Datagram{Path: from, Data: initRequest(3, n.Data)})
		if len(r.machines()) != 1 || len(r.mux.replies(t)) != 2 {
			t.Error("the cookie of SPI 2 was taken for SPI 3")
		}
		moved := from
		moved.Remote = netip.AddrPortFrom(moved.Remote.Addr(), 1027) // a NAT
		r.e.IKE(transport.Datagram{Path: moved, Data: initRequest(2, n.Data)})
		if len(r.machines()) != 2 {
			t.Error("the right cookie was refused")
		}
		stream := tcp("192.1.2.45:4000", 1)
		r.e.Accepted(stream)
		r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(4, nil)})
		if len(r.machines()) != 3 {
			t.Error("a cookie was asked for over TCP")
		}
	})
}

func TestCookieSyntax(t *testing.T) {
	inRig(t, policy.Setup{CookieMode: policy.CookieAlways}, nil, func(t *testing.T, r *rig) {
		noNonce := wire.Message{Header: wire.Header{InitiatorSPI: 1, MajorVersion: 2, Exchange: iana.IKE_SA_INIT, Flags: i}}
		bad := initRequest(1, nil)
		bad[wire.HeaderLen+3] = 200 // the nonce is longer than the message
		for _, data := range [][]byte{noNonce.AppendTo(nil), bad} {
			r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: data})
		}
		if n := r.drops(event.DropSyntax); n != 2 || len(r.machines()) != 0 || len(r.mux.replies(t)) != 0 {
			t.Errorf("%d drops, %d machines", n, len(r.machines()))
		}
	})
}

// TestLineage: a stream carries one IKE SA; another's message closes it (RFC 9329 6.1).
func TestLineage(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		stream := tcp("192.1.2.45:4000", 1)
		r.e.Accepted(stream)
		r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(1, nil)})
		first := r.machines()[0]
		r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(2, nil)})
		if n := len(r.machines()); n != 1 {
			t.Errorf("%d machines on one stream", n)
		}
		if len(r.mux.closed) != 1 {
			t.Error("the stream is open")
		}
		if _, ok := first.inputs[len(first.inputs)-1].(machine.PathLost); !ok {
			t.Errorf("its owner was not told: %T", first.inputs[len(first.inputs)-1])
		}
		r.e.Lost(stream, transport.ErrClosed)
		if s := r.e.Stats(); s.HalfOpen != 0 || s.IKESAs != 0 {
			t.Errorf("half-open IKE SAs outlive their stream: %+v", s)
		}
	})
}

// TestForeignMessage: the same for a message to an IKE SA that lives on another stream; it does not reach that one.
func TestForeignMessage(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		streams := []path.Path{tcp("192.1.2.45:4000", 1), tcp("192.1.2.45:4001", 2)}
		for n, stream := range streams {
			r.e.Accepted(stream)
			r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(wire.SPI(n+1), nil)})
			synctest.Wait()
		}
		r.to(r.machines()[1], streams[0])
		if n := len(r.machines()[1].inputs); n != 1 {
			t.Error("the message came through")
		}
		if len(r.mux.closed) != 1 || r.mux.closed[0] != streams[0] || r.drops(event.DropUnexpected) != 1 {
			t.Errorf("closed: %v", r.mux.closed)
		}
	})
}

// TestHalfOpenEndsWithItsStream, and an IKE_SA_INIT that comes after the loss makes no machine.
func TestHalfOpenEndsWithItsStream(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		stream := tcp("192.1.2.45:4000", 1)
		r.e.Accepted(stream)
		r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(1, nil)})
		synctest.Wait()
		r.e.Lost(stream, transport.ErrClosed)
		synctest.Wait()
		if s := r.e.Stats(); s.IKESAs != 0 {
			t.Errorf("%+v", s)
		}
		r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(2, nil)})
		if n := len(r.machines()); n != 1 || r.drops(event.DropClosed) != 1 {
			t.Errorf("%d machines", n)
		}
	})
}

// TestRefusedStreamStays: after a refusal that the initiator can cure the stream is kept for its corrected request (RFC 9329 6.4).
func TestRefusedStreamStays(t *testing.T) {
	refuse := func(m *script, in machine.Input) []machine.Effect {
		d, ok := in.(machine.Datagram)
		if !ok {
			return nil
		}
		return []machine.Effect{
			machine.Send{Path: d.Path, Data: header(wire.Header{})},
			machine.Close{Close: event.Close{Reason: event.ReasonNoProposal, Notify: iana.INVALID_KE_PAYLOAD}},
		}
	}
	inRig(t, policy.Setup{}, refuse, func(t *testing.T, r *rig) {
		stream := tcp("192.1.2.45:4000", 1)
		r.e.Accepted(stream)
		for spi := range wire.SPI(3) {
			r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(spi+1, nil)})
		}
		if n := len(r.machines()); n != 3 || len(r.mux.closed) != 0 {
			t.Errorf("%d machines, closed %v", n, r.mux.closed)
		}
	})
}

// TestJunkOnStream: a few messages in a row that belong to nothing close a stream; a good one in between starts the count again.
func TestJunkOnStream(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		stream := tcp("192.1.2.45:4000", 1)
		r.e.Accepted(stream)
		r.e.IKE(transport.Datagram{Path: stream, Data: initRequest(1, nil)})
		mine := r.machines()[0].cfg.SPI
		junk := header(wire.Header{InitiatorSPI: 7, ResponderSPI: 99, Exchange: iana.INFORMATIONAL, Flags: i})
		good := header(wire.Header{InitiatorSPI: 1, ResponderSPI: mine, Exchange: iana.IKE_AUTH, Flags: i, MessageID: 1})
		for range 3 {
			for range maxJunk - 1 {
				r.e.IKE(transport.Datagram{Path: stream, Data: junk})
				synctest.Wait()
			}
			r.e.IKE(transport.Datagram{Path: stream, Data: good})
			synctest.Wait()
		}
		if len(r.mux.closed) != 0 {
			t.Fatal("closed too early")
		}
		for range maxJunk {
			r.e.IKE(transport.Datagram{Path: stream, Data: junk})
			synctest.Wait()
		}
		if len(r.mux.closed) != 1 {
			t.Error("still open")
		}
	})
}

// TestFullMailbox: a datagram is dropped and counted, a stream waits and is resumed.
func TestFullMailbox(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		hold := make(chan struct{})
		r.s.box.post(func() { <-hold })
		synctest.Wait()
		full := header(wire.Header{InitiatorSPI: 1, ResponderSPI: 256, Exchange: iana.INFORMATIONAL, Flags: i})
		for range maxDatagrams {
			r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: full})
		}
		if r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: full}) {
			t.Error("more was taken than there is room for")
		}
		stream := tcp("192.1.2.45:4000", 1)
		r.e.Accepted(stream)
		if r.e.IKE(transport.Datagram{Path: stream, Data: full}) {
			t.Error("a stream's message was taken")
		}
		close(hold)
		synctest.Wait()
		if len(r.mux.resumed) != 1 || r.mux.resumed[0] != stream {
			t.Errorf("resumed: %v", r.mux.resumed)
		}
		if n := r.drops(event.DropMailbox); n != 1 {
			t.Errorf("%d drops counted; a message of a stream that waits is not dropped", n)
		}
	})
}

// TestTemplates: exact addresses come before %any.
func TestTemplates(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		anybody := connection("any")
		anybody.Left.Host = policy.Host{Kind: policy.HostAny}
		set := &policy.Set{Connections: []*policy.Connection{anybody, connection("exact")}}
		if err := r.e.Apply(context.Background(), set); err != nil {
			t.Fatal(err)
		}
		for spi, from := range []string{"192.1.2.45:500", "203.0.113.1:500"} {
			r.e.IKE(transport.Datagram{Path: udp(from), Data: initRequest(wire.SPI(spi+1), nil)})
		}
		var got []string
		for _, m := range r.machines() {
			var names []string
			for _, o := range m.candidates {
				names = append(names, o.Name)
			}
			got = append(got, strings.Join(names, ","))
		}
		if strings.Join(got, " ") != "exact,any any" {
			t.Errorf("candidates %v", got)
		}
	})
}

// TestLinkLocalPeer: a peer that comes from a link-local address is refused, and the operator reads why.
func TestLinkLocalPeer(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		p := path.Path{Local: netip.MustParseAddrPort("[fe80::23]:500"), Remote: netip.MustParseAddrPort("[fe80::45]:500")}
		r.e.IKE(transport.Datagram{Path: p, Data: initRequest(7, nil), At: time.Now()})
		if n := r.drops(event.DropNoConnection); n != 1 || len(r.machines()) != 0 {
			t.Errorf("%d drops, %d machines", n, len(r.machines()))
		}
		got := r.mux.replies(t)
		if len(got) != 1 || notifyOf(t, got[0]).Notify != iana.NO_PROPOSAL_CHOSEN {
			t.Errorf("answered: %+v", got)
		}
		if told := r.told(event.KindNote); !slices.ContainsFunc(told, func(ev event.Event) bool {
			return strings.Contains(ev.Text, "link-local addresses mean something on one link only")
		}) {
			t.Errorf("told: %+v", told)
		}
	})
}
