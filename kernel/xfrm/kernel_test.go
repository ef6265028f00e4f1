package xfrm

import (
	"os"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestKernelCarries carries packets between two namespaces of a real kernel, with fixed keys.
func TestKernelCarries(t *testing.T) {
	inGuest(t, map[string]func(t *testing.T, west, east *gateway){"carry": testCarry, "algorithms": testAlgorithms})
}

// TestKernelTells looks at what the kernel has and says.
func TestKernelTells(t *testing.T) {
	inGuest(t, map[string]func(t *testing.T, west, east *gateway){
		"look": testLook, "standby": testStandby, "limits": testLimits, "acquire": testAcquireUp, "move": testMove, "mapping": testMapping, "crash": testCrash,
		"refusals": testRefusals, "interface": testInterface, "left_interface": testLeftInterface, "resync": testResync, "waits": testWaits, "marks": testMarks,
		"no memory": testNoMemory, "given_up": testGivenUp, "turn": testTurn, "removed": testRemoved,
	})
}

// TestKernelNewer: on a kernel whose SAs have a direction, which it holds them to.
func TestKernelNewer(t *testing.T) {
	if testing.Short() && !uml.Inside() {
		t.Skip("NOT TESTED: another kernel, which takes minutes; make test-kernel runs this")
	}
	inGuestOn(t, uml.Newer, map[string]func(t *testing.T, west, east *gateway){
		"directions": testDirections, "carry": testCarry, "standby": testStandby, "limits": testLimits, "acquire": testAcquireUp, "move": testMove, "crash": testCrash,
	})
}

// testDirections: each SA has its direction, from the reservation of its SPI on, and the kernel knows it as such.
func testDirections(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	if !west.directed {
		t.Fatal("it is not known that SAs have a direction here")
	}
	sas := func() (ins, outs []message.SA) {
		all, _, err := inKernel(west.conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, sa := range all {
			switch sa.Direction {
			case message.Inbound:
				ins = append(ins, *sa)
			case message.Outbound:
				outs = append(outs, *sa)
			case message.NoDirection:
				t.Errorf("an SA without direction: %+v", sa.ID())
			}
		}
		return ins, outs
	}
	for _, c := range []tunnel{{suite: gcm, carrier: path.ESP, window: 64}, {suite: esn(gcm), carrier: path.ESP, window: 4096}, {suite: gcm, carrier: path.ESP}} {
		reserved := west.must(func(n kernel.Request) { west.ReserveSPI(n, kernel.Endpoints{Path: c.ends(west, east, 0, 0)}) }).SPI
		if ins, outs := sas(); len(ins) != 1 || len(outs) != 0 {
			t.Errorf("reserved: %d in, %d out", len(ins), len(outs))
		}
		west.must(func(n kernel.Request) { west.Remove(n, reserved) })
		w, e := c.install(t, west, east)
		ins, outs := sas()
		if len(ins) != 1 || len(outs) != 1 || outs[0].Replay.Window != 0 || ins[0].Replay.Window < c.window {
			t.Errorf("window %d: in %d, out %d: %+v %+v", c.window, len(ins), len(outs), ins, outs)
		}
		west.ping(t, west.i4, east.i4, 3)
		west.must(func(n kernel.Request) { west.Remove(n, w) })
		east.must(func(n kernel.Request) { east.Remove(n, e) })
	}
}

// inGuest runs tests in a kernel of their own, each with two gateways.
func inGuest(t *testing.T, tests map[string]func(t *testing.T, west, east *gateway)) {
	t.Helper()
	inGuestOn(t, uml.Full, tests)
}

func inGuestOn(t *testing.T, k uml.Kernel, tests map[string]func(t *testing.T, west, east *gateway)) {
	t.Helper()
	if !uml.Inside() && os.Getenv("TEST_KERNEL") == "" {
		t.Skip("NOT TESTED: SAs on a real kernel, which take minutes; make test-kernel runs this")
	}
	if uml.Outside(t, k) {
		return
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			west, east := gateways(t)
			test(t, west, east)
		})
	}
}

func esn(s suite.Suite) suite.Suite { s.SN = iana.SN_ESN; return s }

func testCarry(t *testing.T, west, east *gateway) {
	gcm := aead(iana.ENCR_AES_GCM_16, 256)
	for name, c := range map[string]tunnel{
		"tunnel":              {suite: gcm, carrier: path.ESP, window: 32},
		"tunnel-outer-6":      {suite: gcm, carrier: path.ESP, outer6: true, window: 64},
		"no-replay-window":    {suite: gcm, carrier: path.ESP},
		"udp":                 {suite: gcm, carrier: path.UDP, window: 128},
		"udp-ports":           {suite: gcm, carrier: path.UDP, window: 128, westPort: 4500, eastPort: 40000},
		"udp-6":               {suite: gcm, carrier: path.UDP, outer6: true, window: 128},
		"esn":                 {suite: esn(gcm), carrier: path.ESP, window: 128},
		"esn-largest-window":  {suite: esn(gcm), carrier: path.UDP, window: 4096},
		"window-beyond-limit": {suite: gcm, carrier: path.ESP, window: 100000},
		"tcp":                 {suite: esn(gcm), carrier: path.TCP, window: 128},
		"transport":           {suite: gcm, carrier: path.ESP, transport: true, window: 32},
		"transport-6":         {suite: esn(gcm), carrier: path.ESP, outer6: true, transport: true, window: 32},
		"transport-udp":       {suite: gcm, carrier: path.UDP, transport: true, window: 32},
		"flags":               {suite: gcm, carrier: path.ESP, window: 32, flags: kernel.Flags{NoECN: true, DecapDSCP: true, NoEncapDSCP: true, NoPMTUDisc: true}},
	} {
		t.Run(name, func(t *testing.T) { c.carry(t, west, east) })
	}
}

// carry installs a tunnel, sends packets both ways and checks what has counted them.
func (c tunnel) carry(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	switch c.carrier {
	case path.UDP:
		if c.westPort == 0 {
			c.westPort, c.eastPort = 4500, 4500
		}
		west.in(func() { encapSocket(t, int(c.westPort)) })
		east.in(func() { encapSocket(t, int(c.eastPort)) })
	case path.TCP:
		c.westPort, c.eastPort = stream(t, west, east), 4500
	case path.ESP:
	}
	spi, _ := c.install(t, west, east)
	want := uint64(3)
	switch {
	case c.transport && c.outer6:
		west.ping(t, west.a6, east.a6, 3)
	case c.transport:
		west.ping(t, west.a4, east.a4, 3)
	default:
		west.ping(t, west.i4, east.i4, 3)
		west.ping(t, west.i6, east.i6, 3)
		want = 6
	}
	u := west.Usage(spi, 0x1234)
	if u[0].InPackets != want || u[0].OutPackets != want || u[0].InBytes == 0 || u[0].LastIn.IsZero() || u[0].LastOut.IsZero() || u[0].SPI != spi {
		t.Errorf("usage %+v, want %d packets each way", u[0], want)
	}
	if u[1] != (kernel.Usage{}) {
		t.Errorf("usage of an unknown SPI: %+v", u[1])
	}
	west.must(func(n kernel.Request) { west.Remove(n, spi) })
	if got := west.ip(t, "xfrm state"); got != "" {
		t.Errorf("after removal:\n%s", hideKeys(got))
	}
	for _, p := range west.policies(t) {
		ofSocket := strings.Contains(p, " socket in ") || strings.Contains(p, " socket out ") // those with which IKE goes past all others
		waits := strings.Contains(p, "dir out") && strings.Contains(p, "tmpl src")            // for an SA, of which there is none
		if !ofSocket && !waits && !strings.Contains(p, "action block") && !strings.Contains(p, "icmp") {
			t.Errorf("without SAs: %s", p)
		}
	}
}

// Every algorithm that IKE may choose for ESP, the kernel carries.
func testAlgorithms(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	all := suite.Implemented()
	for _, e := range all.Encr {
		integs := all.Integ
		if e.AEAD() {
			integs = []iana.Integ{iana.AUTH_NONE}
		}
		for _, i := range integs {
			c := tunnel{suite: suite.Suite{Encr: e, Integ: i}, carrier: path.ESP, window: 32}
			t.Run(c.suite.Transform(), func(t *testing.T) {
				w, es := c.install(t, west, east)
				west.ping(t, west.i4, east.i4, 1)
				if u := west.Usage(w)[0]; u.InPackets != 1 || u.OutPackets != 1 {
					t.Errorf("%+v", u)
				}
				west.must(func(n kernel.Request) { west.Remove(n, w) })
				east.must(func(n kernel.Request) { east.Remove(n, es) })
			})
		}
	}
}
