package twosa

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// The choices of FuzzHandshake.
const (
	overTCP    = 1 << iota
	otherGroup // the responder wants another key exchange: two more messages
	otherPSK
	narrowing
	cbc
	failInstall
)

// fuzzWorld makes a world from FuzzHandshake's choices.
func fuzzWorld(choice uint8) *World {
	w := Pair(uint64(choice), func(c *policy.Connection) {
		c.Liveness = 10 * time.Second
		if choice&otherGroup != 0 {
			c.IKE = IKE("aes_gcm256-sha2_512-dh31+dh19")
		}
		if choice&cbc != 0 {
			c.IKE = IKE("aes256-sha2_512-dh31+dh19")
		}
		if choice&narrowing != 0 {
			selectors(c, TS("192.0.0.0/16"), TS("0.0.0.0/0"))
			c.Narrowing = true
		}
	}, func(c *policy.Connection) {
		c.Narrowing = choice&narrowing != 0
		switch {
		case choice&cbc != 0:
			c.IKE = IKE("aes256-sha2_512-dh19")
		case choice&otherGroup != 0:
			c.IKE = IKE("aes_gcm256-sha2_512-dh19")
		}
	})
	if choice&otherPSK != 0 {
		w.East.Secrets = Store("something else")
	}
	if choice&failInstall != 0 {
		w.East.FailInstall = errFuzz
	}
	w.West.Ladder = func(n machine.NeedPath) machine.Input {
		if n.Last.Kind == path.UDP {
			return machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()}
		}
		return machine.NoPath{Err: errFuzz}
	}
	return w
}

var errFuzz = &fuzzError{}

type fuzzError struct{}

func (*fuzzError) Error() string { return "refused by the fuzzer" }

// FuzzHandshake runs a life of two machines in which one message is replaced: by the fuzzer's octets as they are, by the same behind a genuine header, or,
// worst of all, sealed with the genuine keys. Whatever happens, nobody panics, nobody talks for ever, and in the end everything is either up at both ends or
// gone without a trace.
func FuzzHandshake(f *testing.F) {
	all, _ := messages()
	for i, p := range all {
		f.Add(uint8(i), uint8(i%3), uint8(1<<(i%6)), p.Data)
	}
	for _, m := range malformed {
		f.Add(uint8(4), uint8(2), uint8(0), append([]byte{byte(m.first)}, m.plain...))
		f.Add(uint8(2), uint8(2), uint8(overTCP), append([]byte{byte(m.first)}, m.plain...))
		f.Add(uint8(3), uint8(2), uint8(cbc), append([]byte{byte(m.first)}, m.plain...))
	}
	inner := wire.AppendChain(nil, []wire.Item{{Payload: wire.Delete{Protocol: iana.ProtoIKE}}, Notify(iana.AUTHENTICATION_FAILED)})
	f.Add(uint8(4), uint8(2), uint8(narrowing), append([]byte{byte(iana.PayloadDelete)}, inner...))
	f.Fuzz(func(t *testing.T, at, how, choice uint8, data []byte) {
		if len(data) > 4096 {
			return
		}
		w := fuzzWorld(choice)
		n := 0
		w.Net = func(p Packet) (Packet, bool) {
			if n++; n == int(at)+1 {
				return replaced(w, p, how, data), true
			}
			return p, true
		}
		p := w.West.UDP()
		if choice&overTCP != 0 {
			p = w.West.TCP()
		}
		w.West.Initiate(p)
		w.Run(40 * time.Second)
		if n > 200 {
			t.Fatalf("%d messages", n)
		}
		for _, h := range []*Host{w.West, w.East} {
			if h.M == nil {
				continue
			}
			h.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
			w.Run(time.Minute)
			if h.Closed == nil {
				t.Errorf("%s is %s after CloseIKE", h.Name, h.M.Snapshot().State)
			}
			if len(h.Installed)+len(h.Reserved) != 0 && h == w.West {
				t.Errorf("%s leaves %v %v behind", h.Name, h.Installed, h.Reserved)
			}
		}
	})
}

// replaced puts the fuzzer's octets in the place of a packet.
func replaced(w *World, p Packet, how uint8, data []byte) Packet {
	h := p.Header()
	switch how % 3 {
	case 0:
		return Packet{Path: p.Path, Data: data}
	case 1:
		if len(data) == 0 {
			return p
		}
		h.NextPayload, h.Length = iana.Payload(data[0]), uint32(wire.HeaderLen+len(data)-1)
		return Packet{Path: p.Path, Data: append(h.AppendTo(nil), data[1:]...)}
	}
	from := w.West
	if p.Path.Local.Addr() != WestAddr {
		from = w.East
	}
	if h.Exchange == iana.IKE_SA_INIT || from.Peer().M == nil || from.Peer().M.Snapshot().SPIr == 0 || len(data) == 0 {
		return p
	}
	forged := from.ForgeRaw(h.Exchange, h.MessageID, h.Response(), iana.Payload(data[0]), data[1:])
	forged.Path = p.Path
	return forged
}

// FuzzDatagram gives a machine in each state one datagram of the fuzzer's with the header repaired so that it gets far. What is not authenticated changes
// nothing, outside IKE_SA_INIT.
func FuzzDatagram(f *testing.F) {
	all, _ := messages()
	for i, p := range all {
		f.Add(uint8(i), uint8(7), p.Data)
		f.Add(uint8(i), uint8(0), p.Data)
	}
	f.Fuzz(func(t *testing.T, at, repair uint8, data []byte) {
		if len(data) > 4096 {
			return
		}
		w := sessionWorldOf(12) // other keys than those of the seeds
		session(w, func(n int, from *Host, _ Packet) {
			if n != int(at%10) {
				return
			}
			for _, h := range []*Host{from, from.Peer()} {
				if h.M == nil {
					continue
				}
				s := h.M.Snapshot()
				d := repaired(data, s, repair)
				if len(d) > 18 && iana.Exchange(d[18]) == iana.IKE_SA_INIT {
					continue
				}
				inert(t, h.Peer(), Packet{Path: reversed(s.Path), Data: d}, n, "fuzzed for "+h.Name, 0)
			}
		})
		regular(t, w)
	})
}

// repaired makes length, SPIs and flags right for a machine, as the bits of what say.
func repaired(data []byte, s machine.Snapshot, what uint8) []byte {
	d := bytes.Clone(data)
	if len(d) < wire.HeaderLen {
		return d
	}
	if what&1 != 0 {
		binary.BigEndian.PutUint64(d, uint64(s.SPIi))
		binary.BigEndian.PutUint64(d[8:], uint64(s.SPIr))
		d[19] &^= byte(wire.FlagInitiator)
		if !s.Initiator {
			d[19] |= byte(wire.FlagInitiator)
		}
	}
	if what&2 != 0 {
		binary.BigEndian.PutUint32(d[24:], uint32(len(d)))
	}
	if what&4 != 0 {
		d[17] = 0x20
		binary.BigEndian.PutUint32(d[20:], uint32(what>>3&3))
	}
	return d
}
