package twosa

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// childSeeds are CREATE_CHILD_SA messages and what is near them, inside an SK payload.
func childSeeds() [][]wire.Item {
	sa := func(ke bool) wire.Item {
		p := ESP("aes_gcm256")
		p[0].KE = []iana.KE{iana.KE_CURVE25519}
		return wire.Item{Payload: p.Offer(iana.ProtoESP, []byte{1, 2, 3, 4}, ke)}
	}
	nonce := wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}}
	ke := wire.Item{Payload: wire.KE{Method: iana.KE_CURVE25519, Data: append(make([]byte, 31), 9)}}
	tsi := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("10.1.0.0/16").ToWire()}}
	tsr := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("10.2.0.0/16").ToWire()}}
	rekey := func(spi uint32) wire.Item {
		return wire.Item{Payload: wire.Notify{Notify: iana.REKEY_SA, Protocol: iana.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, spi)}}
	}
	return [][]wire.Item{
		{sa(false), nonce, tsi, tsr},
		{sa(true), nonce, ke, tsi, tsr},
		{rekey(0x10000001), sa(true), nonce, ke, tsi, tsr},
		{rekey(0x20000001), sa(false), nonce, tsi, tsr},
		{Notify(iana.INVALID_KE_PAYLOAD, 0, 19)},
		{Notify(iana.TEMPORARY_FAILURE)},
		{Notify(iana.NO_ADDITIONAL_SAS)},
		{wire.Item{Payload: wire.Notify{Notify: iana.CHILD_SA_NOT_FOUND, Protocol: iana.ProtoESP, SPI: []byte{0x10, 0, 0, 1}}}},
		{wire.Item{Payload: deleteOf(0x10000001, 0x20000001)}},
		{wire.Item{Payload: wire.Delete{Protocol: iana.ProtoIKE}}},
	}
}

func deleteOf(spis ...uint32) wire.Delete {
	d := wire.Delete{Protocol: iana.ProtoESP, SPISize: 4}
	for _, s := range spis {
		d.SPIs = append(d.SPIs, binary.BigEndian.AppendUint32(nil, s))
	}
	return d
}

// FuzzCreateChild has two ends create, rekey and delete Child SAs at the same time, with one message replaced as in FuzzHandshake. Nobody panics, nobody talks
// for ever, and in the end nothing is left behind.
func FuzzCreateChild(f *testing.F) {
	for i, items := range childSeeds() {
		data := append([]byte{byte(wire.First(items))}, wire.AppendChain(nil, items)...)
		for at := range uint8(6) {
			f.Add(at, uint8(2), uint8(i), data)
		}
	}
	f.Fuzz(func(t *testing.T, at, how, choice uint8, data []byte) {
		if len(data) > 4096 {
			return
		}
		change := func(c *policy.Connection) {
			two(c)
			if choice&1 != 0 {
				pfs(c)
			}
			c.Narrowing = choice&2 != 0
			c.Liveness = 10 * time.Second
		}
		w := Pair(uint64(choice), change, change)
		p := w.West.UDP()
		if choice&4 != 0 {
			p = w.West.TCP()
		}
		w.West.Initiate(p)
		w.Settle()
		n := 0
		w.Net = func(p Packet) (Packet, bool) {
			if n++; n == int(at%16)+1 {
				return replaced(w, p, how, data), true
			}
			return p, true
		}
		w.West.open()
		w.East.rekey()
		if choice&8 != 0 {
			w.West.rekey()
		}
		w.Settle()
		if choice&16 != 0 && len(w.East.M.Snapshot().Children) > 0 {
			w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
		}
		w.Run(90 * time.Second)
		if n > 300 {
			t.Fatalf("%d messages", n)
		}
		for _, h := range []*Host{w.West, w.East} {
			h.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
			w.Run(time.Minute)
			if h.Closed == nil || len(h.Installed)+len(h.Reserved) != 0 {
				t.Errorf("%s is %s, and leaves %v %v behind", h.Name, h.M.Snapshot().State, h.Installed, h.Reserved)
			}
		}
	})
}
