package stream

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/transport"
)

// reference says what a stream after the prefix must hand over, and how it must end, by reading it as RFC 9329 3 is written.
func reference(b []byte, ownedFrom int) (want []got, fatal bool) {
	messages, bad := 0, 0
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if n < 2 {
			return want, true
		}
		if n > len(b) {
			break
		}
		msg := b[2:n]
		b = b[n:]
		switch {
		case len(msg) == 0 || len(msg) == 1 && msg[0] == 0xff:
			continue
		case len(msg) >= 8 && string(msg[:4]) != "\x00\x00\x00\x00":
			want = append(want, got{esp, string(msg)})
			continue
		case len(msg) >= 32 && string(msg[:4]) == "\x00\x00\x00\x00" && int(binary.BigEndian.Uint32(msg[28:])) == len(msg)-4:
			want = append(want, got{ike, string(msg[4:])})
			bad = 0
			messages++
			continue
		}
		if bad++; messages < ownedFrom || bad >= badInARow {
			return want, true
		}
	}
	return want, false
}

// receive feeds a stream of octets to a responder whose stream is owned after so many IKE messages.
func receive(t *testing.T, data, cuts []byte, ownedFrom int) ([]got, error) {
	t.Helper()
	k := newSink()
	s := New(&chopped{data: data, cuts: cuts}, k.config())
	k.onIKE = func(n int) {
		if n == ownedFrom {
			s.Own()
		}
	}
	if ownedFrom == 0 {
		s.Own()
	}
	err := s.Run()
	return k.got, err
}

func FuzzFraming(f *testing.F) {
	whole := slices.Concat([]byte(Prefix), ikeFrame("one"), frame(espPacket(1, 64)), frame(nil), frame([]byte{0xff}), frame(espPacket(2, 40)), ikeFrame("two"))
	f.Add(whole, []byte{0}, uint8(0))
	f.Add(whole, []byte{0, 1, 0}, uint8(1))
	f.Add(whole, []byte{6, 255, 3}, uint8(2))
	f.Add(whole, []byte{}, uint8(1))
	f.Add(append(slices.Clone(whole), 0, 1, 9), []byte{7}, uint8(1))
	f.Add(append(slices.Clone(whole), 0, 0), []byte{1}, uint8(9))
	f.Add(append(slices.Clone(whole), 0xff, 0xff, 1, 2, 3), []byte{200}, uint8(1))
	f.Add(append(slices.Clone(whole), frame([]byte{0, 0, 0, 0, 1})...), []byte{2}, uint8(9))
	f.Add([]byte("GET / HTTP/1.1\r\n"), []byte{2}, uint8(0))
	f.Fuzz(func(t *testing.T, data, cuts []byte, ownedFrom uint8) {
		have, err := receive(t, data, cuts, int(ownedFrom))
		if len(data) < len(Prefix) || string(data[:len(Prefix)]) != Prefix {
			if len(have) > 0 || err == nil || errors.Is(err, errPrefix) == strings.HasPrefix(Prefix, string(data[:min(len(data), len(Prefix))])) {
				t.Fatalf("without the prefix: %d messages and %v", len(have), err)
			}
			return
		}
		want, fatal := reference(data[len(Prefix):], int(ownedFrom))
		if !slices.Equal(have, want) {
			t.Fatalf("cut by %v: got %d messages %.200v, want %d %.200v", cuts, len(have), have, len(want), want)
		}
		if ended := strings.Contains(err.Error(), "the peer closed"); ended == fatal {
			t.Fatalf("the stream ended with %q, fatal %v", err, fatal)
		}
	})
}

// TestFramingOnSockets sends the same stream in random pieces over a real connection: the reads of sockets differ from those of other streams.
func TestFramingOnSockets(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		data := ikeFrame("first")
		for i := range 3000 {
			switch rng.IntN(6) {
			case 0:
				data = append(data, ikeFrame(strings.Repeat("i", rng.IntN(2000)))...)
			case 1:
				data = append(data, frame(nil)...)
			case 2:
				data = append(data, frame([]byte{0xff})...)
			default:
				data = append(data, frame(espPacket(uint32(i), 8+rng.IntN(3000)))...)
			}
		}
		data = append(data, frame(espPacket(1, maxFrame-lengthLen))...)
		want, _ := reference(data, 1)
		data = append(data, 0x10, 0x00, 1, 2, 3) // half a frame: discarded (RFC 9329 6.1)

		near, far := tcpPair(t)
		k := newSink()
		s := New(near, k.config())
		k.onIKE = func(int) { s.Own() }
		done := run(s)
		for out := append([]byte(Prefix), data...); len(out) > 0; {
			n := min(len(out), 1+rng.IntN(1<<rng.IntN(17)))
			if _, err := far.Write(out[:n]); err != nil {
				t.Fatal(err)
			}
			out = out[n:]
		}
		far.Close()
		if err := <-done; !strings.Contains(err.Error(), "the peer closed") {
			t.Fatalf("seed %d: ended with %v", seed, err)
		}
		if !slices.Equal(k.all(), want) {
			t.Fatalf("seed %d: got %d messages, want %d", seed, len(k.all()), len(want))
		}
	}
}

func TestPrefixByOctets(t *testing.T) {
	have, err := receive(t, append([]byte(Prefix), ikeFrame("hello")...), []byte{0}, 9)
	if len(have) != 1 || have[0].data != string(ikeMessage("hello")) {
		t.Fatalf("got %v, %v", have, err)
	}
}

func TestWrongPrefixEndsAtOnce(t *testing.T) {
	near, far := net.Pipe()
	k := newSink()
	cfg := k.config()
	cfg.Meter = new(transport.Meter)
	accepted := false
	cfg.Accepted = func() { accepted = true }
	done := run(New(near, cfg))
	if _, err := far.Write([]byte("IKX")); err != nil { // the fourth octet never comes
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, errPrefix) {
		t.Fatalf("ended with %v, want %v", err, errPrefix)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the connection was not closed: %v", err)
	}
	if accepted || cfg.Meter.Dropped(transport.DropStreamPrefix) != 1 {
		t.Fatalf("accepted %v, counted %d", accepted, cfg.Meter.Dropped(transport.DropStreamPrefix))
	}
}

func TestLengths(t *testing.T) {
	for _, tc := range []struct {
		name string
		tail []byte
		want string
	}{
		{"zero_closes", []byte{0, 0}, "length before a message is 0 or 1"},
		{"one_closes", []byte{0, 1}, "length before a message is 0 or 1"},
		{"two_is_ignored", []byte{0, 2}, "the peer closed"},
		{"largest", frame(espPacket(1, maxFrame-lengthLen)), "the peer closed"},
		{"short_ike", frame([]byte{0, 0, 0, 0, 5}), "shorter than an IKE header"},
		{"wrong_ike_length", frame(append(make([]byte, 4), append(ikeMessage("x"), 1)...)), "says in its header that it has 29"},
	} {
		for _, ownedFrom := range []int{0, 9} {
			_, err := receive(t, slices.Concat([]byte(Prefix), tc.tail), nil, ownedFrom)
			want := tc.want
			if ownedFrom == 0 && strings.HasSuffix(tc.name, "_ike") || ownedFrom == 0 && tc.name == "wrong_ike_length" {
				want = "the peer closed" // one senseless message does not cost an authenticated peer its stream
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, owned from %d: ended with %v, want %q", tc.name, ownedFrom, err, want)
			}
		}
	}
}

func TestSenselessMessagesInARowEndAnOwnedStream(t *testing.T) {
	data := []byte(Prefix)
	for range badInARow {
		data = append(data, frame([]byte{0, 0, 0, 0, 5})...)
	}
	data = append(data, ikeFrame("never")...)
	have, err := receive(t, data, nil, 0)
	if len(have) != 0 || !strings.Contains(err.Error(), "corrupt") {
		t.Fatalf("got %v, %v", have, err)
	}
}
