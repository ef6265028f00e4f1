package uml_test

import (
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
)

// mostInClear is how many packets may go in clear from the moment when others remove the policies until they are back: the stream sends a hundred and some in a second.
const mostInClear = 20

// flushed: somebody removes our policies and SAs from the kernel. The policies are back at once, the Child SA is made anew, and packets flow as before; nobody has to
// change anything.
func flushed(t *testing.T, o ours) {
	p := o.meet(t, "start")
	p.settled(t)
	for _, g := range p.both() {
		before, child := xfrmBlocks(t, g.host, "policy"), onlyChild(t, p.west.Daemon).SPIIn
		if err := p.east.host.RunInput(onlyProtected, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		stop := p.stream(t)
		for range 3 {
			clear := p.clearPackets(t, func() {
				if out, err := g.host.Output("ip", "xfrm", "policy", "flush"); err != nil {
					t.Fatal(err, out)
				}
				netns.Until(t, patience, "the policies of "+g.name+" are back", func() bool { return xfrmBlocks(t, g.host, "policy") == before })
			})
			t.Logf("%s: %d packets in clear", g.name, clear)
			if clear > mostInClear {
				t.Errorf("%s: %d packets in clear before the policies were back", g.name, clear)
			}
			if clear := p.clearPackets(t, func() { p.pings(t, p.west, p.west.in, p.east.in) }); clear > 0 {
				t.Errorf("%s: %d packets in clear when the policies were back", g.name, clear)
			}
		}
		stop()
		if err := p.east.host.Run("nft", "delete", "table", "netdev", "wire"); err != nil {
			t.Error(err)
		}
		if now := onlyChild(t, p.west.Daemon).SPIIn; now != child {
			t.Errorf("the Child SA is another one: %s, before %s", now, child)
		}
		said(t, "the log of "+g.name, g.Log(), "somebody has removed policies of ikegod from the kernel", "those of \"meeting\"; they were put back")
		p.watched(t, func() {
			defer p.stream(t)()
			if out, err := g.host.Output("ip", "xfrm", "state", "flush"); err != nil {
				t.Fatal(err, out)
			}
			netns.Until(t, patience, "another Child SA", func() bool {
				list := ikeSAs(t, p.west.Daemon)
				return len(list) == 1 && len(list[0].Children) == 1 && list[0].Children[0].SPIIn != child
			})
			p.settled(t)
			p.pings(t, p.west, p.west.in, p.east.in)
			p.pings(t, p.east, p.east.in, p.west.in)
		})
		said(t, "the log of "+g.name, g.Log(), "somebody has removed SAs of ikegod from the kernel")
	}
	p.down(t)
	p.leavesNothing(t)
}
