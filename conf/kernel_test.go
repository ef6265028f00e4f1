package conf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/ike/policy"
)

func TestKernelKeywords(t *testing.T) {
	for _, c := range []struct {
		lines string
		want  policy.Kernel
	}{
		{"", policy.Kernel{}},
		{"mark=5/0xff", policy.Kernel{MarkIn: policy.Mark{Value: 5, Mask: 0xff}, MarkOut: policy.Mark{Value: 5, Mask: 0xff}}},
		{"mark=5/0xff\n\tmark-out=0x10", policy.Kernel{MarkIn: policy.Mark{Value: 5, Mask: 0xff}, MarkOut: policy.Mark{Value: 16, Mask: 0xffffffff}}},
		{"mark=5\n\tmark-in=0", policy.Kernel{MarkOut: policy.Mark{Value: 5, Mask: 0xffffffff}}},
		{"ipsec-interface=yes", policy.Kernel{Interface: "ipsec1", InterfaceID: 1}},
		{"ipsec-interface=1", policy.Kernel{Interface: "ipsec1", InterfaceID: 1}},
		{"ipsec-interface=0", policy.Kernel{Interface: "ipsec0", InterfaceID: 16384}},
		{"ipsec-max-bytes=1MiB\n\tipsec-max-packets=1Ki", policy.Kernel{MaxBytes: 1 << 20, MaxPackets: 1024}},
		{"decap-dscp=yes\n\tencap-dscp=no\n\tnopmtudisc=yes\n\tpriority=7", policy.Kernel{Priority: 7, DecapDSCP: true, NoEncapDSCP: true, NoPMTUDisc: true}},
	} {
		connection, ds := one(t, "\t"+c.lines+"\n")
		if connection == nil || len(ds) > 0 {
			t.Errorf("%q: %v", c.lines, ds)
			continue
		}
		if diff := cmp.Diff(c.want, connection.Children[0].Kernel); diff != "" {
			t.Errorf("%q: %s", c.lines, diff)
		}
	}
}

func TestInterfaceIP(t *testing.T) {
	c, ds := one(t, "\tipsec-interface=yes\n\tleftinterface-ip=198.18.15.15/24\n")
	if c == nil || len(ds) > 0 || c.Left.InterfaceIP.String() != "198.18.15.15/24" || c.Right.InterfaceIP.IsValid() {
		t.Errorf("%+v, %v", c, ds)
	}
	if _, ds = one(t, "\tleftinterface-ip=198.18.15.15/24\n"); len(ds) != 1 || !strings.Contains(ds[0].Error(), "ipsec-interface=") {
		t.Errorf("without an interface: %v", ds)
	}
}
