/* A Modbus device on libmodbus: 100 of everything, input register i holds 1000 + i.
 * Usage: libmodbus_device tcp | libmodbus_device rtu PATH UNIT. Prints its TCP port. */
#include <arpa/inet.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int rtu = argc == 4 && strcmp(argv[1], "rtu") == 0;
  modbus_mapping_t *map = modbus_mapping_new(100, 100, 100, 100);
  if (!map || (!rtu && argc != 2)) return 2;
  for (int i = 0; i < 100; i++) {
    map->tab_input_registers[i] = 1000 + i;
    map->tab_input_bits[i] = i % 3 == 0;
  }
  modbus_t *bus = rtu ? modbus_new_rtu(argv[2], 19200, 'N', 8, 1) : modbus_new_tcp("127.0.0.1", 0);
  if (!bus) return 3;
  uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
  int server = -1;
  if (rtu) {
    modbus_set_slave(bus, atoi(argv[3]));
    if (modbus_connect(bus)) return 4;
    printf("0\n");
  } else {
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    server = modbus_tcp_listen(bus, 4);
    if (server < 0 || getsockname(server, (struct sockaddr *)&name, &size)) return 5;
    printf("%d\n", ntohs(name.sin_port));
  }
  fflush(stdout);
  for (;;) {
    if (!rtu && modbus_tcp_accept(bus, &server) < 0) return 6;
    for (;;) {
      int got = modbus_receive(bus, query);
      if (got > 0) modbus_reply(bus, query, got, map);
      else if (got < 0 && !rtu) break;
    }
    modbus_close(bus);
  }
}
