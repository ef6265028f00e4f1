package kernel

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

func testPair(in, out SPI, key byte) SAPair {
	one := ts.Set{{Start: netip.MustParseAddr("10.0.0.0"), End: netip.MustParseAddr("10.0.0.255"), EndPort: 65535}}
	return SAPair{
		Policy: "c", In: SA{SPI: in, EncrKey: []byte{key, 1}}, Out: SA{SPI: out, EncrKey: []byte{key, 2}}, Local: one, Remote: one,
		Endpoints: Endpoints{Path: path.Path{Local: netip.MustParseAddrPort("192.1.2.45:4500"), Remote: netip.MustParseAddrPort("192.1.2.23:4500")}},
	}
}

func TestFakeKeepsBooks(t *testing.T) {
	var got []Event
	f := NewFake(FakeOptions{Events: func(e Event) { got = append(got, e) }})
	p := testPair(0x1000, 0x2000, 7)
	f.Route(1, Policy{ID: "c", Local: p.Local, Remote: p.Remote})
	f.ReserveSPI(2, Endpoints{})
	f.Install(3, p)
	if len(got) != 3 || got[1] != (Done{Request: 2, SPI: 0x1000}) || got[2] != (Done{Request: 3, SPI: 0x1000}) {
		t.Fatalf("events %v", got)
	}
	if len(f.Pairs()) != 1 || len(f.Policies()) != 1 || len(f.Reserved()) != 0 {
		t.Fatalf("pairs %v policies %v reserved %v", f.Pairs(), f.Policies(), f.Reserved())
	}
	moved := p.Endpoints
	moved.Path.Kind = path.TCP
	f.Move(4, 0x1000, moved)
	if f.Pairs()[0].Endpoints != moved {
		t.Errorf("Move left %v", f.Pairs()[0].Endpoints)
	}
	f.Remove(5, 0x1000)
	f.Unroute(6, "c")
	if len(f.Pairs()) != 0 || len(f.Policies()) != 0 {
		t.Errorf("left over: %v %v", f.Pairs(), f.Policies())
	}
	if v := f.Violations(); len(v) != 0 {
		t.Errorf("violations %q", v)
	}
}

func TestFakeFindsBrokenRules(t *testing.T) {
	f := NewFake(FakeOptions{})
	p := testPair(0x1000, 0x2000, 7)
	f.Route(1, Policy{ID: "c", Local: p.Local, Remote: p.Remote})
	f.Install(2, p)              // never reserved
	f.ReserveSPI(3, Endpoints{}) // 0x1000 is in use: 0x1001
	again := testPair(0x1001, 0x2001, 7)
	f.Install(4, again) // same outbound key
	f.Unroute(5, "c")   // two pairs use it
	if n := len(f.Violations()); n != 4 {
		t.Errorf("%d violations, want 4: %q", n, f.Violations())
	}
}

func TestFakeRefusesAndDelays(t *testing.T) {
	var got []Event
	f := NewFake(FakeOptions{Events: func(e Event) { got = append(got, e) }, Manual: true, Rand: bytes.NewReader([]byte{0, 0, 0, 1, 9, 8, 7, 6})})
	no := errors.New("no memory")
	f.Refuse(OpRoute, no)
	f.Route(1, Policy{ID: "c"})
	f.ReserveSPI(2, Endpoints{}) // 1 is below 256 and skipped
	f.ReserveSPI(3, Endpoints{}) // the source is empty
	if len(got) != 0 {
		t.Fatalf("completed early: %v", got)
	}
	if n := f.Complete(); n != 3 {
		t.Fatalf("completed %d of 3", n)
	}
	if d := got[0].(Done); !errors.Is(d.Err, no) || len(f.Policies()) != 0 {
		t.Errorf("refusal: %v, policies %v", d, f.Policies())
	}
	if d := got[1].(Done); d.SPI != 0x09080706 {
		t.Errorf("SPI %#x", uint32(d.SPI))
	}
	if d := got[2].(Done); d.Err == nil {
		t.Errorf("an empty source gave %v", d)
	}
}
