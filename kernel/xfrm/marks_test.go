package xfrm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/path"
)

// Packets with the outbound mark are sealed, and others not; those of an SA are let in with the inbound mark, which is that of the sealed packet; and what is sealed has
// the output mark.
func testMarks(t *testing.T, west, east *gateway) {
	west.start(t, Config{OutputMark: kernel.Mark{Value: 0x70, Mask: 0xf0}})
	east.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32, markIn: kernel.Mark{Value: 6, Mask: 0xf}, markOut: kernel.Mark{Value: 5, Mask: 0xf}}
	rules := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(rules, []byte(`table inet marks {
	counter marked { }
	counter unmarked { }
	chain out {
		type filter hook output priority 0;
		meta l4proto esp meta mark & 0xf0 == 0x70 counter name marked
		meta l4proto esp meta mark & 0xf0 != 0x70 counter name unmarked
	}
	chain in {
		type filter hook prerouting priority -300;
		meta l4proto esp meta mark set 6
	}
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	nft := func(args string) string {
		t.Helper()
		out, err := west.exec("nft " + args)
		if err != nil {
			t.Fatal(err, out)
		}
		return out
	}
	nft("-f " + rules)
	defer nft("delete table inet marks")
	spi, _ := c.install(t, west, east)
	ping := func(mark string) error {
		_, err := west.exec(fmt.Sprintf("ping -n -c 2 -i 0.02 -W 1 -m %s -I %s %s", mark, west.i4, east.i4))
		return err
	}
	if err := ping("21"); err != nil { // 5 in the bits that count
		t.Errorf("with the mark: %v", err)
	}
	expect(t, "west, with the mark", west.packets(spi), []string{"2/2"})
	if err := ping("4"); err == nil {
		t.Error("without the mark: east has taken a packet in clear")
	}
	expect(t, "west, without the mark", west.packets(spi), []string{"2/2"})
	if out := nft("list counters"); !strings.Contains(out, "counter marked {\n\t\tpackets 2 ") || !strings.Contains(out, "counter unmarked {\n\t\tpackets 0 ") {
		t.Errorf("output mark: %s", out)
	}
	nft("flush chain inet marks in")
	if err := ping("5"); err == nil {
		t.Error("an answer without the inbound mark was let in")
	}
	expect(t, "west, without the inbound mark", west.packets(spi), []string{"4/4"})
}

// What the kernel has no memory for leaves nothing, whichever request it is that fails; and the next time all is well.
func testNoMemory(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32}
	p := c.policy(t, west, east, kernel.Protect)
	west.route(p)
	before := west.policies(t)
	ends := kernel.Endpoints{Path: c.ends(west, east, 0, 0)}
	for failing := 1; ; failing++ {
		spi := west.must(func(n kernel.Request) { west.ReserveSPI(n, ends) }).SPI
		count := 0
		west.requests.tell(func() {
			west.conn.refuse = func(kind message.Type) error {
				if count++; count != failing {
					return nil
				}
				return fmt.Errorf("request %d, %v: %w", count, kind, unix.ENOBUFS)
			}
		})
		d := west.await(func(n kernel.Request) {
			west.Install(n, kernel.SAPair{
				Policy: p.ID, Local: p.Local, Remote: p.Remote, Endpoints: ends, In: kernel.SA{SPI: spi, Suite: gcm, EncrKey: key(36, 1)},
				Out: kernel.SA{SPI: 0x7777, Suite: gcm, EncrKey: key(36, 2)},
			})
		})
		west.requests.tell(func() { west.conn.refuse = nil })
		west.must(func(n kernel.Request) { west.Remove(n, spi) })
		if got := west.ip(t, "xfrm state"); got != "" {
			t.Errorf("request %d left:\n%s", failing, hideKeys(got))
		}
		if diff := cmp.Diff(before, west.policies(t)); diff != "" {
			t.Errorf("request %d has changed policies:\n%s", failing, diff)
		}
		if d.Err == nil {
			if failing < 6 {
				t.Errorf("it took %d requests", failing-1)
			}
			break
		}
		if !errors.Is(d.Err, kernel.ErrMemory) || !strings.Contains(d.Err.Error(), "the kernel has no memory for it") {
			t.Errorf("request %d: %v", failing, d.Err)
		}
	}
	w, _ := c.install(t, west, east)
	west.ping(t, west.i4, east.i4, 1)
	expect(t, "west", west.packets(w), []string{"1/1"})
}
