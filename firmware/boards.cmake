# Adds ../boards/<target>/: <target> is the board's name, as "mps2/an385" is mps2_an385 and
# "native_sim/native/64" is native_sim. `west build` reads BOARD from its command line, its own
# configuration or the environment, in that order.
if(DEFINED BOARD)
  set(fl_board ${BOARD})
elseif(DEFINED CACHED_BOARD)
  set(fl_board ${CACHED_BOARD})
else()
  set(fl_board $ENV{BOARD})
endif()

string(REGEX REPLACE "@[^/]*" "" fl_board "${fl_board}")
string(REPLACE "/" "_" fl_board "${fl_board}")
while(NOT fl_board STREQUAL "")
  set(fl_board_dir ${CMAKE_CURRENT_LIST_DIR}/../boards/${fl_board})
  if(EXISTS ${fl_board_dir}/board.yaml)
    list(PREPEND EXTRA_CONF_FILE ${fl_board_dir}/${fl_board}.conf)
    if(EXISTS ${fl_board_dir}/${fl_board}.overlay)
      list(PREPEND EXTRA_DTC_OVERLAY_FILE ${fl_board_dir}/${fl_board}.overlay)
    endif()
    break()
  endif()
  # A qualifier less: native_sim_native_64, native_sim_native, native_sim.
  if(NOT fl_board MATCHES "_")
    set(fl_board "")
  endif()
  string(REGEX REPLACE "_[^_]*$" "" fl_board "${fl_board}")
endwhile()
