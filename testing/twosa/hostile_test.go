package twosa

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// session runs a whole life: handshake, liveness, deletion of the child and of the IKE SA. step is called before each delivery with the number of the
// message; it may send others. It returns the number of messages.
func session(w *World, step func(n int, from *Host, p Packet)) int {
	n := 0
	settle := func() {
		for len(w.West.Out)+len(w.East.Out) > 0 {
			h := w.West
			if len(h.Out) == 0 {
				h = w.East
			}
			p := h.Out[0]
			h.Out = h.Out[1:]
			if step != nil {
				step(n, h, p)
			}
			n++
			h.Inject(p)
		}
	}
	w.West.Initiate(w.West.UDP())
	settle()
	w.Now = w.Now.Add(10 * time.Second)
	w.West.Step(machine.Tick{})
	settle()
	if c := w.East.M.Snapshot().Children; len(c) > 0 {
		w.East.Step(machine.CloseChild{Child: c[0].ID})
		settle()
	}
	w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
	settle()
	return n
}

// sessionWorld has liveness on one end, so that session has something to say.
func sessionWorld() *World { return sessionWorldOf(11) }

func sessionWorldOf(seed uint64) *World {
	return Pair(seed, func(c *policy.Connection) { c.Liveness = 10 * time.Second }, nil)
}

// messages is what session sends, with the sender's name.
func messages() (all []Packet, from []string) {
	session(sessionWorld(), func(_ int, h *Host, p Packet) {
		all, from = append(all, p), append(from, h.Name)
	})
	return all, from
}

func (w *World) host(name string) *Host {
	if name == "west" {
		return w.West
	}
	return w.East
}

// regular checks that a session came to its regular end.
func regular(t *testing.T, w *World) {
	t.Helper()
	closedFor(t, w.West, event.ReasonOperator, 0)
	closedFor(t, w.East, event.ReasonPeerDeleted, 0)
	if w.West.Closed == nil {
		t.Error("west is not closed")
	}
}

func TestSession(t *testing.T) {
	w := sessionWorld()
	if n := session(w, nil); n != 10 {
		t.Errorf("%d messages", n)
	}
	regular(t, w)
}

// TestReplayEverything sends every message of a session again, at every point of the session: the session goes its way, nothing is answered but by a reply
// that was sent before, and no state changes by it.
func TestReplayEverything(t *testing.T) {
	all, from := messages()
	for at := range all {
		w := sessionWorld()
		session(w, func(n int, _ *Host, _ Packet) {
			if n != at {
				return
			}
			for i := range all[:at] {
				peer := w.host(from[i]).Peer()
				sent := len(peer.Sent)
				before, deadline := peer.M.Snapshot(), peer.M.Deadline()
				w.host(from[i]).Inject(all[i])
				after := peer.M.Snapshot()
				if before.State != after.State || before.Path != after.Path || len(before.Children) != len(after.Children) || !peer.M.Deadline().Equal(deadline) {
					t.Errorf("message %d again before %d: %+v became %+v", i, at, before, after)
				}
				for _, p := range peer.Sent[sent:] {
					if !sentBefore(peer.Sent[:sent], p.Data) {
						t.Errorf("message %d again before %d: a new answer", i, at)
					}
				}
				peer.Out = peer.Out[:len(peer.Out)-(len(peer.Sent)-sent)]
			}
		})
		regular(t, w)
	}
}

func sentBefore(sent []Packet, data []byte) bool {
	for _, p := range sent {
		if bytes.Equal(p.Data, data) {
			return true
		}
	}
	return false
}

// TestTruncation sends every message of a session cut at every length, with its own Length field and with one that fits, before the whole one: nothing
// changes, and the session goes on.
func TestTruncation(t *testing.T) {
	w := sessionWorld()
	session(w, func(n int, from *Host, p Packet) {
		if p.Header().Exchange == iana.IKE_SA_INIT {
			return // TestTruncatedInit
		}
		for cut := range p.Data {
			for _, fits := range []bool{false, true} {
				data := bytes.Clone(p.Data[:cut])
				if fits && cut >= wire.HeaderLen {
					data[26], data[27] = byte(cut>>8), byte(cut)
				}
				inert(t, from, Packet{Path: p.Path, Data: data}, n, "cut at", cut)
			}
		}
	})
	regular(t, w)
}

// TestTruncatedInit: a cut IKE_SA_INIT request makes no IKE SA, a cut response does not count as one.
func TestTruncatedInit(t *testing.T) {
	w := sessionWorld()
	w.West.Initiate(w.West.UDP())
	request := w.West.Out[0]
	for cut := range request.Data {
		for _, fits := range []bool{false, true} {
			data := bytes.Clone(request.Data[:cut])
			if fits && cut >= wire.HeaderLen {
				data[26], data[27] = byte(cut>>8), byte(cut)
			}
			w.East.M, w.East.Closed = nil, nil
			w.West.Inject(Packet{Path: request.Path, Data: data})
			if w.East.M != nil {
				if s := w.East.M.Snapshot().State; s == "half-open" {
					t.Errorf("cut at %d: %s", cut, s)
				}
			}
		}
	}
	w.East.M, w.East.Out = nil, nil
	w.West.Deliver()
	response := w.East.Out[0]
	for cut := range response.Data {
		data := bytes.Clone(response.Data[:cut])
		if cut >= wire.HeaderLen {
			data[26], data[27] = byte(cut>>8), byte(cut)
		}
		inert(t, w.East, Packet{Path: response.Path, Data: data}, 1, "cut at", cut)
	}
	w.Settle()
	agreed(t, w)
}

// TestBitFlips flips every bit of every protected message of a session, before the genuine one arrives.
func TestBitFlips(t *testing.T) {
	w := sessionWorld()
	session(w, func(n int, from *Host, p Packet) {
		if p.Header().Exchange == iana.IKE_SA_INIT {
			return
		}
		for bit := range 8 * len(p.Data) {
			data := bytes.Clone(p.Data)
			data[bit/8] ^= 1 << (bit % 8)
			inert(t, from, Packet{Path: p.Path, Data: data}, n, "bit", bit)
		}
	})
	regular(t, w)
}

// TestForeignKeys: what is sealed with the keys of another IKE SA between the same hosts.
func TestForeignKeys(t *testing.T) {
	w := up(t)
	other := Pair(8, nil, nil)
	other.West.Initiate(other.West.UDP())
	other.Settle()
	p := other.West.Forge(iana.INFORMATIONAL, 2, false, wire.Item{Payload: wire.Delete{Protocol: iana.ProtoIKE}})
	before := w.East.Drops
	unchanged(t, w.East, func() { w.West.Inject(p) })
	dropped(t, w.East, before, event.DropIntegrity)
}

// TestReflection: a message comes back to who sent it, as it is and with the flags turned.
func TestReflection(t *testing.T) {
	w := sessionWorld()
	session(w, func(n int, from *Host, p Packet) {
		if n < 2 {
			return
		}
		peer := from.Peer()
		if peer.M == nil || from.M == nil {
			return
		}
		back := Packet{Path: reversed(p.Path), Data: bytes.Clone(p.Data)}
		inert(t, peer, back, n, "reflected", 0)
		for _, flag := range []byte{byte(wire.FlagInitiator), byte(wire.FlagResponse), byte(wire.FlagInitiator | wire.FlagResponse)} {
			back.Data = bytes.Clone(p.Data)
			back.Data[19] ^= flag
			inert(t, peer, back, n, "reflected with flags", int(flag))
		}
	})
	regular(t, w)
}

// inert injects a packet of from's and checks that it neither changes nor wakes the peer, nor is answered, and that it is counted.
func inert(t *testing.T, from *Host, p Packet, n int, how string, at int) {
	t.Helper()
	peer := from.Peer()
	before, deadline, sent, drops := peer.M.Snapshot(), peer.M.Deadline(), len(peer.Sent), peer.Drops
	from.Inject(p)
	after := peer.M.Snapshot()
	switch {
	case before.State != after.State, before.Path != after.Path, before.SPIr != after.SPIr, len(before.Children) != len(after.Children):
		t.Fatalf("message %d %s %d: %+v became %+v", n, how, at, before, after)
	case !peer.M.Deadline().Equal(deadline):
		t.Fatalf("message %d %s %d: deadline changed", n, how, at)
	case len(peer.Sent) != sent:
		t.Fatalf("message %d %s %d: answered", n, how, at)
	case peer.Drops == drops:
		t.Fatalf("message %d %s %d: not counted", n, how, at)
	}
}

// TestVersions: any other major version is dropped; the minor version and reserved bits are ignored (RFC 7296 2.5, 3.1).
func TestVersions(t *testing.T) {
	w := up(t)
	for _, v := range []byte{0x00, 0x10, 0x30, 0xf0} {
		p := w.West.Forge(iana.INFORMATIONAL, 2, false)
		p.Data[17] = v
		before := w.East.Drops
		unchanged(t, w.East, func() { w.West.Inject(p) })
		dropped(t, w.East, before, event.DropMajorVersion)
	}
	w = Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	p := w.West.Out[0]
	p.Data[17], p.Data[19] = 0x2f, p.Data[19]|0xd7&^byte(wire.FlagResponse)
	w.West.Inject(p)
	if s := w.East.M.Snapshot().State; s != "half-open" {
		t.Errorf("minor version 15 and reserved flags: east is %s", s)
	}
}

// TestFragmentsDropped: fragmentation was not negotiated (RFC 7383 2.3).
func TestFragmentsDropped(t *testing.T) {
	w := up(t)
	p := w.West.Forge(iana.INFORMATIONAL, 2, false)
	h := p.Header()
	data := wire.AppendSKFHeader(nil, h, 0, 1, 1, 32)
	data = append(data, make([]byte, 32)...)
	before := w.East.Drops
	unchanged(t, w.East, func() { w.West.Inject(Packet{Path: p.Path, Data: data}) })
	dropped(t, w.East, before, event.DropFragment)
}

// TestHeaderFaults: SPIs and flags that do not fit.
func TestHeaderFaults(t *testing.T) {
	w := up(t)
	for name, tc := range map[string]struct {
		change func([]byte)
		want   event.Drop
	}{
		"other initiator SPI":  {func(b []byte) { b[0] ^= 1 }, event.DropUnknownSPI},
		"other responder SPI":  {func(b []byte) { b[8] ^= 1 }, event.DropUnknownSPI},
		"initiator flag":       {func(b []byte) { b[19] ^= byte(wire.FlagInitiator) }, event.DropUnexpected},
		"length field":         {func(b []byte) { b[27]++ }, event.DropLength},
		"unknown exchange":     {func(b []byte) { b[18] = 99 }, event.DropUnexpected},
		"initial with our SPI": {func(b []byte) { b[18], b[20], b[21], b[22], b[23] = byte(iana.IKE_SA_INIT), 0, 0, 0, 0 }, event.DropNotInitiator},
		"in clear":             {func(b []byte) { b[16] = 0; b[27] = 28; b[26] = 0 }, event.DropLength},
	} {
		p := w.West.Forge(iana.INFORMATIONAL, 2, false)
		tc.change(p.Data)
		before := w.East.Drops
		unchanged(t, w.East, func() { w.West.Inject(p) })
		t.Log(name)
		dropped(t, w.East, before, tc.want)
	}
	before := w.West.Drops
	p := w.East.Forge(iana.INFORMATIONAL, 0, false)
	p.Data[15] ^= 1
	unchanged(t, w.West, func() { w.East.Inject(p) })
	dropped(t, w.West, before, event.DropUnknownSPI)
	before = w.East.Drops
	h := w.West.Forge(iana.INFORMATIONAL, 2, false).Header()
	empty := wire.Message{Header: h}
	unchanged(t, w.East, func() {
		w.West.Inject(Packet{Path: reversed(w.East.M.Snapshot().Path), Data: empty.AppendTo(nil)})
	})
	dropped(t, w.East, before, event.DropUnprotected)
}

// TestBadSecretOnResponder: the initiator's public value passes the first test and gives no secret: the IKE SA goes, nothing is said.
func TestBadSecretOnResponder(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Pending != nil }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.East.FailJob = errors.New("all-zero secret")
	sent := len(w.East.Sent)
	w.East.Complete()
	closedFor(t, w.East, event.ReasonProtocol, 0)
	said(t, w.East, "192.1.2.45", "all-zero secret")
	if len(w.East.Sent) != sent {
		t.Error("answered")
	}
}

// TestInputsOutOfPlace: inputs that make no sense in a state do nothing, in any state.
func TestInputsOutOfPlace(t *testing.T) {
	inputs := []machine.Input{
		machine.Start{},
		machine.JobDone{ID: 77},
		machine.JobDone{},
		machine.SPIReserved{Child: 99, Err: errors.New("x")},
		machine.InstallDone{Child: 99},
		machine.InstallDone{Child: 1},
		machine.PathReady{},
		machine.NoPath{},
		machine.PathLost{},
		machine.CloseChild{Child: 99},
		machine.ESPSeen{},
		machine.Tick{},
	}
	w := sessionWorld()
	session(w, func(_ int, from *Host, _ Packet) {
		for _, h := range []*Host{from, from.Peer()} {
			if h.M == nil {
				continue
			}
			for _, in := range inputs {
				unchanged(t, h, func() { h.Step(in) })
			}
		}
	})
	regular(t, w)
}

type exhausted struct{ left int }

func (e *exhausted) Read(b []byte) (int, error) {
	if e.left -= len(b); e.left < 0 {
		return 0, errors.New("no entropy")
	}
	for i := range b {
		b[i] = byte(e.left + i)
	}
	return len(b), nil
}

// TestNoEntropy: the random source fails at any point; the machine ends with a word, and does not panic.
func TestNoEntropy(t *testing.T) {
	cbc := func(c *policy.Connection) { c.IKE = IKE("aes256-sha2_512-dh31") }
	for left := 0; left < 200; left += 8 {
		for _, failing := range []string{"west", "east"} {
			w := Pair(1, cbc, cbc)
			w.host(failing).Entropy = &exhausted{left}
			w.West.Initiate(w.West.UDP())
			w.Settle()
			h := w.host(failing)
			if h.M == nil {
				continue
			}
			if s := h.M.Snapshot().State; s != "established" && (h.Closed == nil || h.Closed.Reason != event.ReasonInternal && h.Closed.Reason != event.ReasonSyntax) {
				t.Errorf("%d octets, %s: %s %+v\n%v", left, failing, s, h.Closed, h.Lines())
			}
		}
	}
}
