package userspace

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// piece makes one fragment of a datagram of protocol 200 between the hosts.
func piece(id uint16, at int, more bool, body []byte) []byte {
	field := uint16(at / 8)
	if more {
		field |= 0x2000
	}
	return ip4{src: westHost, dst: eastHost, proto: 200, id: id, frag: field, body: body}.bytes()
}

func TestReassembly(t *testing.T) {
	body := payload(48)
	a, b, c := piece(1, 0, true, body[:16]), piece(1, 16, true, body[16:32]), piece(1, 32, false, body[32:])
	for name, f := range map[string]struct {
		pieces  [][]byte
		whole   int // how many datagrams become whole
		dropped int
		waiting int
	}{
		"in order":            {[][]byte{a, b, c}, 1, 0, 0},
		"backwards":           {[][]byte{c, b, a}, 1, 0, 0},
		"middle last":         {[][]byte{a, c, b}, 1, 0, 0},
		"middle first":        {[][]byte{b, c, a}, 1, 0, 0},
		"twice":               {[][]byte{a, a, c, c, b}, 1, 0, 0},
		"part of one again":   {[][]byte{piece(1, 0, true, body[:32]), b, a, c}, 1, 0, 0},
		"only the first":      {[][]byte{a}, 0, 0, 1},
		"without the first":   {[][]byte{b, c}, 0, 0, 1},
		"without the last":    {[][]byte{a, b}, 0, 0, 1},
		"two datagrams":       {[][]byte{a, piece(2, 0, true, body[:16]), b, c, piece(2, 16, false, body[16:])}, 2, 0, 0},
		"all in one":          {[][]byte{piece(1, 0, false, body)}, 1, 0, 0},
		"overlap":             {[][]byte{a, piece(1, 8, true, body[8:32]), c}, 0, 2, 1},
		"overlap from behind": {[][]byte{b, piece(1, 8, true, body[8:24])}, 0, 2, 0},
		"overlap of two":      {[][]byte{a, c, piece(1, 16, true, body[16:40])}, 0, 3, 0},
		"again but different": {[][]byte{a, piece(1, 0, true, body[8:24])}, 0, 2, 0},
		"two ends":            {[][]byte{c, piece(1, 40, false, body[:16])}, 0, 2, 0},
		"end before the rest": {[][]byte{c, piece(1, 16, false, body[16:24])}, 0, 2, 0},
		"behind the end":      {[][]byte{c, piece(1, 48, true, body[:8])}, 0, 2, 0},
		"odd length":          {[][]byte{piece(1, 0, true, body[:15])}, 0, 1, 0},
		"empty":               {[][]byte{piece(1, 8, false, nil)}, 0, 1, 0},
		"too long":            {[][]byte{piece(1, 65528, false, body[:8])}, 0, 1, 0},
	} {
		r := reassembly{life: fragmentLife}
		dst := make([]byte, 65535)
		whole, dropped := 0, 0
		for _, p := range f.pieces {
			got, n := r.add(p, dst, time.Unix(0, 0))
			dropped += n
			if got == nil {
				continue
			}
			whole++
			if want := (ip4{src: westHost, dst: eastHost, proto: 200, id: binary.BigEndian.Uint16(got[4:]), body: body}).bytes(); !bytes.Equal(got, want) {
				t.Errorf("%s: got %x, want %x", name, got, want)
			}
		}
		if whole != f.whole || dropped != f.dropped || len(r.list) != f.waiting {
			t.Errorf("%s: %d whole, %d dropped, %d waiting; want %d, %d, %d", name, whole, dropped, len(r.list), f.whole, f.dropped, f.waiting)
		}
	}
}

// TestReassemblyMeasuresTheWhole: fragments that are short enough one by one, and together longer than IP can be, since the first has a longer header.
func TestReassemblyMeasuresTheWhole(t *testing.T) {
	first := piece(7, 0, true, payload(40+32768)) // whose beginning are options
	first[0] = 0x4f
	last := piece(7, 32768, false, payload(65515-32768))
	for name, pieces := range map[string][2][]byte{"backwards": {last, first}, "in order": {first, last}} {
		r := reassembly{life: fragmentLife}
		dst, dropped := make([]byte, 65535), 0
		for _, p := range pieces {
			whole, n := r.add(p, dst, time.Time{})
			if dropped += n; whole != nil {
				t.Errorf("%s: %d octets", name, len(whole))
			}
		}
		if dropped != 2 || len(r.list) != 0 || r.octets != 0 {
			t.Errorf("%s: %d dropped, %d waiting with %d octets", name, dropped, len(r.list), r.octets)
		}
	}
}

// TestReassemblyKeepsTheFirstHeader: options and extension headers are those of the first fragment (RFC 791 3.2, RFC 8200 4.5).
func TestReassemblyKeepsTheFirstHeader(t *testing.T) {
	r := reassembly{life: fragmentLife}
	dst := make([]byte, 65535)
	body := payload(32)
	first := piece(7, 0, true, append([]byte{1, 1, 1, 0}, body[:16]...))
	first[0] = 0x46
	putIPv4Checksum(first[:24])
	r.add(piece(7, 16, false, body[16:]), dst, time.Time{})
	got, _ := r.add(first, dst, time.Time{})
	if len(got) != 56 || got[0] != 0x46 || slowChecksum(got[:24]) != 0 || !bytes.Equal(got[24:], body) {
		t.Errorf("IPv4: %x", got)
	}

	options := []byte{protoFragment, 0, 1, 4, 0, 0, 0, 0}
	part := func(at uint16, more, next byte, b []byte) []byte {
		h := append(slices.Clone(options), next, 0, byte(at>>8), byte(at)|more, 0, 0, 0, 9)
		return ip6(westHost6, eastHost6, protoDestOptions, append(h, b...))
	}
	r.add(part(16, 0, 99, body[16:]), dst, time.Time{}) // what a later fragment says follows does not count
	got, _ = r.add(part(0, 1, 200, body[:16]), dst, time.Time{})
	want := ip6(westHost6, eastHost6, protoDestOptions, append([]byte{200, 0, 1, 4, 0, 0, 0, 0}, body...))
	if !bytes.Equal(got, want) {
		t.Errorf("IPv6: got %x, want %x", got, want)
	}
	if len(r.list) != 0 || r.octets != 0 {
		t.Errorf("%d waiting, %d octets counted", len(r.list), r.octets)
	}
}

func TestReassemblyIsBounded(t *testing.T) {
	r := reassembly{life: fragmentLife}
	dst := make([]byte, 65535)
	now := time.Unix(100, 0)
	dropped := 0
	for id := range 1000 {
		_, n := r.add(piece(uint16(id), 64000, true, payload(8)), dst, now)
		dropped += n
		if len(r.list) > maxDatagrams || r.octets > maxFragmented+65536 {
			t.Fatalf("%d datagrams and %d octets wait", len(r.list), r.octets)
		}
	}
	if dropped != 1000-len(r.list) || len(r.list) < maxDatagrams/2 {
		t.Errorf("%d dropped, %d waiting", dropped, len(r.list))
	}
	if n := r.stale(now.Add(fragmentLife)); n != 0 {
		t.Errorf("%d given up in time", n)
	}
	if _, n := r.add(piece(5, 0, true, payload(8)), dst, now.Add(fragmentLife+1)); n != 1000-dropped || len(r.list) != 1 {
		t.Errorf("%d given up too late, %d waiting", n, len(r.list))
	}
	if n := r.stale(now.Add(time.Hour)); n != 1 || len(r.list) != 0 || r.octets != 0 || len(r.spare) != spareBuffers {
		t.Errorf("%d given up, %d waiting, %d octets, %d spare", n, len(r.list), r.octets, len(r.spare))
	}
}

// FuzzReassembly compares with a slow definition: a map of octets. Each three octets of script are one fragment: where it begins, how long it is, and whether more follow.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2, 2, 1, 4, 3, 0})
	f.Add([]byte{4, 3, 0, 0, 2, 1, 0, 2, 1, 2, 2, 1})
	f.Add([]byte{0, 3, 1, 1, 1, 1, 3, 1, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		content := payload(64 * 8)
		r := reassembly{life: fragmentLife}
		dst := make([]byte, 65535)
		have, total, given := map[int]bool{}, -1, 0
		for ; len(script) >= 3 && given == 0; script = script[3:] {
			at, n, more := int(script[0]%32)*8, int(script[1]%16)*8, script[2]&1 == 1
			if !more {
				n = max(0, n-int(script[2]%8))
			}
			got, dropped := r.add(piece(1, at, more, content[at:at+n]), dst, time.Time{})
			given += dropped
			if n == 0 {
				continue
			}
			fresh, known := 0, 0
			for i := at; i < at+n; i++ {
				if have[i] {
					known++
				} else {
					fresh++
				}
			}
			bad := fresh > 0 && known > 0
			for i := range have {
				bad = bad || !more && i >= at+n
			}
			bad = bad || total >= 0 && (at+n > total || !more && at+n != total)
			if bad != (given > 0) {
				t.Fatalf("fragment %d to %d, more %v, of what has %d octets and total %d: given up %d, want %v", at, at+n, more, len(have), total, given, bad)
			}
			if bad {
				return
			}
			for i := at; i < at+n; i++ {
				have[i] = true
			}
			if !more {
				total = at + n
			}
			if complete := len(have) == total; complete != (got != nil) {
				t.Fatalf("%d of %d octets are there, whole: %v", len(have), total, got != nil)
			}
			if got != nil {
				if !bytes.Equal(got[20:], content[:total]) {
					t.Fatalf("got %x", got)
				}
				return
			}
		}
	})
}

// FuzzTransportMode hands a datapath with an SA in transport mode whatever the kernel might, and lets an authentic peer send anything.
func FuzzTransportMode(f *testing.F) {
	f.Add(udp(westHost, eastHost, 1, 2, payload(100)), uint8(0), uint8(17))
	f.Add(piece(1, 0, true, payload(800)), uint8(0), uint8(6))
	f.Add(udp6(westHost6, eastHost6, 1, 2, payload(100)), uint8(0), uint8(60))
	f.Add(ip6(westHost6, eastHost6, protoFragment, append([]byte{17, 0, 0, 1, 0, 0, 0, 9}, payload(80)...)), uint8(0), uint8(44))
	f.Add([]byte{0x46, 0, 0, 0}, uint8(1), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, flags, next uint8) {
		w := westUDP
		if len(b) > 0 && b[0]>>4 == 6 {
			w = westUDP6
		}
		if len(b) > 65000 {
			return
		}
		west, east := hosts(t, w)
		out := frame(b)
		out[0] = flags
		sealed := west.out(out)
		out2 := west.control.pairs[0xc0000002].out
		raw := make([]byte, out2.SealedLen(len(b)))
		if _, err := out2.Seal(&west.worker.scratch, raw, next, b); err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, sent{path: w, packets: [][]byte{raw}})
		n := 0
		for _, s := range sealed {
			n += len(s.packets)
		}
		got := flatten(t, east.in(sealed...))
		dropped := 0
		for _, v := range east.Drops() {
			dropped += int(v)
		}
		if len(got)+dropped != n {
			t.Fatalf("%d sealed, %d arrived, drops %v", n, len(got), east.Drops())
		}
		for _, g := range got {
			p, fl, ok := parse(g)
			if !ok || p.fragment || fl.src != w.Local.Addr() || fl.dst != w.Remote.Addr() {
				t.Fatalf("arrived: %x", g)
			}
		}
	})
}
